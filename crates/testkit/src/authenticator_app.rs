//! One-time codes (RFC 6238), worked out by openssl rather than by what is tested.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

/// An authenticator app with a secret.
#[derive(Debug)]
pub struct AuthenticatorApp {
    secret: String,
    began: u64,
}

impl AuthenticatorApp {
    /// One that was just told its secret, in base32.
    pub fn with(secret: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self { secret: secret.to_owned(), began: now.as_secs() / 30 }
    }

    /// The code that it shows so many times thirty seconds after it was told the secret.
    pub fn code(&self, after: u64) -> String {
        code(&self.secret, self.began + after)
    }
}

fn code(secret: &str, step: u64) -> String {
    let bits: String = secret
        .bytes()
        .map(|letter| {
            let place = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|one| *one == letter);
            format!("{:05b}", place.unwrap())
        })
        .collect();
    let key: String = bits
        .as_bytes()
        .chunks_exact(8)
        .map(|byte| {
            let byte = u8::from_str_radix(str::from_utf8(byte).unwrap(), 2).unwrap();
            format!("{byte:02x}")
        })
        .collect();
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha1", "-mac", "HMAC", "-macopt", &format!("hexkey:{key}"), "-binary"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl is missing: apt-get install openssl");
    openssl.stdin.take().unwrap().write_all(&step.to_be_bytes()).unwrap();
    let tag = openssl.wait_with_output().unwrap().stdout;
    let offset = usize::from(tag[19] & 0xf);
    let number = u32::from_be_bytes(tag[offset..offset + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}
