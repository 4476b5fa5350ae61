//! A gateway on its own, serving one state from a JSON file: for benchmarks and for tests that kill it.
//!
//! `standalone STATE STATE_DIR LISTEN WORKERS` prints the address it listens on and serves until its standard input
//! ends; with `-` for STATE it serves what is kept in STATE_DIR. All keys are 32 times the byte 7; targets may have any
//! address.

use std::{env, error::Error, fs, io::Read, path::PathBuf, sync::Arc, time::Duration};

use gateway::{CredentialKey, Gateway, GatewayKeys, GatewaySettings};
use model::{AddressPolicy, Clock, Network, RosterPage, Structure, Update};

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEY: [u8; 32] = [7; 32];

#[derive(serde::Deserialize)]
struct State {
    structure: Structure,
    roster: RosterPage,
}

#[expect(clippy::print_stdout, reason = "whoever starts it reads the address from there")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [state, state_dir, listen, workers] = arguments.as_slice() else {
        return Err("usage: standalone STATE STATE_DIR LISTEN WORKERS".into());
    };
    let everywhere = vec![Network::parse("0.0.0.0/0")?, Network::parse("::/0")?];
    let settings = GatewaySettings {
        listen: listen.parse()?,
        workers: workers.parse()?,
        state_dir: PathBuf::from(state_dir),
        address_policy: AddressPolicy::allowing(everywhere),
        ..GatewaySettings::default()
    };
    let keys = GatewayKeys {
        credential_key: CredentialKey::new(KEY),
        state_key: journal::Key::new(KEY),
        usage_key: journal::Key::new(KEY),
    };
    let gateway = Gateway::start(settings, &keys, Clock::system())?;
    if state != "-" {
        gateway.take(&read(state)?)?;
    }
    println!("{}", gateway.local_addr());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    gateway.shut_down(Duration::from_secs(5));
    Ok(())
}

fn read(path: &str) -> Result<Update, Box<dyn Error>> {
    let State { structure, roster } = serde_json::from_slice(&fs::read(path)?)?;
    let digest = roster
        .present
        .iter()
        .fold(model::RosterDigest::default(), |digest, entry| digest.with(entry));
    Ok(Update {
        reached: Some(structure.number),
        structure: Some(Arc::new(structure)),
        roster: Some(RosterPage { digest: Some(digest), ..roster }),
        quota: None,
    })
}
