//! A gateway on its own, serving one snapshot from a JSON file: for benchmarks and for tests that kill it.
//!
//! `standalone SNAPSHOT STATE_DIR LISTEN WORKERS` prints the address it listens on and serves until its standard
//! input ends. All keys are 32 times the byte 7; targets may have any address.

use std::{env, error::Error, fs, io::Read, path::PathBuf, time::Duration};

use gateway::{CredentialKey, Gateway, GatewayKeys, GatewaySettings};
use model::{AddressPolicy, Clock, Network};

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEY: [u8; 32] = [7; 32];

#[expect(clippy::print_stdout, reason = "whoever starts it reads the address from there")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [snapshot, state_dir, listen, workers] = arguments.as_slice() else {
        return Err("usage: standalone SNAPSHOT STATE_DIR LISTEN WORKERS".into());
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
    gateway.publish(serde_json::from_slice(&fs::read(snapshot)?)?)?;
    println!("{}", gateway.local_addr());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    gateway.shut_down(Duration::from_secs(5));
    Ok(())
}
