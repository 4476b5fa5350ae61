//! Signing in to an installation from the command line.

use std::{
    fs,
    io::{self, IsTerminal},
    path::PathBuf,
};

use anyhow::{Context, bail};
use clap::Args;
use desired::{Client, ClientError, SignIn};
use zeroize::Zeroizing;

/// Which installation, and as whom.
#[derive(Args)]
#[command(next_help_heading = "Installation")]
pub(crate) struct ConnectArgs {
    /// Address of the control API; CADUCEUS_SERVER when absent.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// E-mail address to sign in with; CADUCEUS_USER when absent. The password is CADUCEUS_PASSWORD, or is asked for;
    /// a code of the authenticator app, for accounts that need one, is CADUCEUS_CODE, or is asked for.
    #[arg(long, value_name = "EMAIL", conflicts_with = "client_id")]
    user: Option<String>,
    /// File with the password.
    #[arg(long, value_name = "FILE", conflicts_with = "client_id")]
    password_file: Option<PathBuf>,
    /// Id of an OAuth client to sign in with; CADUCEUS_CLIENT_ID when absent. Its secret is CADUCEUS_CLIENT_SECRET.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// File with the secret of the OAuth client.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "password_file"])]
    client_secret_file: Option<PathBuf>,
    /// Certificates (PEM) that are trusted beside the public ones.
    #[arg(long, value_name = "FILE")]
    ca_certificates: Option<PathBuf>,
}

/// Where `caduceus serve` listens when nobody says otherwise.
const SERVER: &str = "http://127.0.0.1:8081";

impl ConnectArgs {
    /// Signs in. A token in CADUCEUS_TOKEN is used when nothing else is said.
    pub(crate) async fn sign_in(&self) -> anyhow::Result<Client> {
        let server = self.server.clone().or_else(|| config::variable("CADUCEUS_SERVER"));
        let server = server.as_deref().unwrap_or(SERVER);
        let authorities = match &self.ca_certificates {
            None => None,
            Some(path) => {
                Some(fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?)
            }
        };
        let proof = self.proof()?;
        let mut client = Client::sign_in(server, proof.clone(), authorities.as_deref()).await;
        if let SignIn::Password { username, password, code: None } = proof
            && client.as_ref().is_err_and(ClientError::asks_for_code)
            && io::stdin().is_terminal()
        {
            let prompt = format!("Code of {username}'s authenticator app: ");
            let code = Some(Zeroizing::new(rpassword::prompt_password(prompt)?));
            let proof = SignIn::Password { username, password, code };
            client = Client::sign_in(server, proof, authorities.as_deref()).await;
        }
        client.with_context(|| format!("signing in to {server} failed"))
    }

    fn proof(&self) -> anyhow::Result<SignIn> {
        let is_person = self.user.is_some() || self.password_file.is_some();
        let client_id = self.client_id.clone().or_else(|| config::variable("CADUCEUS_CLIENT_ID"));
        if let Some(id) = client_id.filter(|_| !is_person) {
            let secret = secret(self.client_secret_file.as_ref(), "CADUCEUS_CLIENT_SECRET")?;
            let Some(secret) = secret else {
                bail!(
                    "the secret of the OAuth client is missing: set CADUCEUS_CLIENT_SECRET, or say --client-secret-file"
                );
            };
            return Ok(SignIn::ClientCredentials { id, secret });
        }
        let user = self.user.clone().or_else(|| config::variable("CADUCEUS_USER"));
        if let Some(username) = user {
            let password = match secret(self.password_file.as_ref(), "CADUCEUS_PASSWORD")? {
                Some(password) => password,
                None if io::stdin().is_terminal() => {
                    let prompt = format!("Password of {username}: ");
                    Zeroizing::new(rpassword::prompt_password(prompt)?)
                }
                None => {
                    bail!("the password is missing: set CADUCEUS_PASSWORD, or say --password-file")
                }
            };
            let code = config::variable("CADUCEUS_CODE").map(Zeroizing::new);
            return Ok(SignIn::Password { username, password, code });
        }
        match config::variable("CADUCEUS_TOKEN") {
            Some(token) => Ok(SignIn::Token(Zeroizing::new(token))),
            None => bail!(
                "nobody is signed in: say --user or --client-id, or set CADUCEUS_USER, CADUCEUS_CLIENT_ID or CADUCEUS_TOKEN"
            ),
        }
    }
}

/// The first line of a file, or else a variable: secrets stand in no process list.
fn secret(file: Option<&PathBuf>, variable: &str) -> anyhow::Result<Option<Zeroizing<String>>> {
    let Some(path) = file else { return Ok(config::variable(variable).map(Zeroizing::new)) };
    let text = Zeroizing::new(
        fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?,
    );
    Ok(Some(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())))
}
