//! Where a notice may go: addresses of the world only, unless the settings say otherwise.
//!
//! Whoever may add a subscriber must not reach through the agent what they cannot reach themselves (a
//! cloud's metadata, a database on the same host). A name is looked up once, its addresses are judged,
//! and the connection goes to one of those and to nothing else, so a name that changes between look and
//! connection changes nothing; and no answer sends the agent elsewhere.

use crate::config::HookSettings;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// No URL is longer, in bytes.
const URL_BYTES_MAX: usize = 2_048;
/// Of a name with many addresses so many are tried.
const ADDRESSES_MAX: usize = 8;

/// Says what is wrong with a URL, as far as that can be said without asking anybody.
pub fn judge(text: &str, settings: &HookSettings) -> Result<Url, String> {
    if text.len() > URL_BYTES_MAX {
        return Err(format!("the URL is longer than {URL_BYTES_MAX} bytes"));
    }
    let url = Url::parse(text).map_err(|it| format!("this is no URL: {it}"))?;
    match url.scheme() {
        "https" => (),
        "http" if settings.plaintext => (),
        "http" => {
            return Err("only https is taken, unless webhooks.plaintext says otherwise".to_owned());
        }
        other => return Err(format!("`{other}` is not spoken here; write https")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("leave out user and password: what is sent is signed".to_owned());
    }
    if let Some(address) = literal(&url) {
        admit(address, settings)?;
    }
    Ok(url)
}

/// The address, where a URL names one instead of a name.
fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

fn admit(address: IpAddr, settings: &HookSettings) -> Result<(), String> {
    match settings.private || is_public(address) {
        true => Ok(()),
        false => Err(format!(
            "{address} is no address of the world; webhooks.private in the settings lets it be told"
        )),
    }
}

/// The addresses of a URL's host that may be told, with the port.
pub async fn addresses(url: &Url, settings: &HookSettings) -> Result<Vec<SocketAddr>, String> {
    let port = url.port_or_known_default().unwrap_or(443);
    if let Some(address) = literal(url) {
        return admit(address, settings).map(|()| vec![SocketAddr::new(address, port)]);
    }
    let host = url.host_str().unwrap_or_default();
    let found = tokio::net::lookup_host((host, port)).await;
    let found: Vec<SocketAddr> =
        found.map_err(|it| format!("cannot look up {host}: {it}"))?.collect();
    let mut why = format!("{host} has no address");
    let mut admitted = Vec::new();
    for it in found {
        match admit(it.ip(), settings) {
            Ok(()) => admitted.push(it),
            Err(it) => why = it,
        }
    }
    admitted.truncate(ADDRESSES_MAX);
    if admitted.is_empty() { Err(why) } else { Ok(admitted) }
}

/// Answers every look-up with what was judged before.
#[derive(Debug)]
pub struct Judged(pub Vec<SocketAddr>);

impl Resolve for Judged {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

/// Says whether an address is of the world: none of this host, of its networks, or of no host at all.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => is_public_v4(it),
        IpAddr::V6(it) => is_public_v6(it),
    }
}

fn is_public_v4(it: Ipv4Addr) -> bool {
    let [a, b, c, _] = it.octets();
    let special = match (a, b) {
        // This network, private ones, this host, multicast and what is kept for later.
        (0 | 10 | 127, _) | (224.., _) => true,
        // Shared by a provider's customers; link-local, with the metadata of clouds.
        (100, 64..=127) | (169, 254) => true,
        (172, 16..=31) | (192, 168) => true,
        // Measurements between networks.
        (198, 18 | 19) => true,
        // Assignments, documentation, and the old way to IPv6.
        (192, 0) => c == 0 || c == 2,
        (192, 88) => c == 99,
        (198, 51) => c == 100,
        (203, 0) => c == 113,
        _ => false,
    };
    !special
}

fn is_public_v6(it: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = it.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b, c, d, e, f) {
        // An IPv4 address in other clothes: mapped, translated, or 6to4.
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => v4(g, h),
        (0x2002, ..) => v4(b, c),
        // Tunnels that hide where they end (Teredo), and documentation.
        (0x2001, 0 | 0xdb8, ..) => false,
        // Only this part of the space is the world's.
        _ => (0x2000..=0x3fff).contains(&a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_world_are_told() {
        let of = |text: &str| is_public(text.parse().unwrap());
        for it in [
            "1.1.1.1",
            "140.82.121.4",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "2606:4700:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
        ] {
            assert!(of(it), "{it}");
        }
        for it in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.8",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "203.0.113.9",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::1",
            "2001::1",
            "2001:db8::1",
            "fec0::1",
        ] {
            assert!(!of(it), "{it}");
        }
    }

    #[test]
    fn a_url_is_judged_in_whatever_clothes_it_comes() {
        let strict = HookSettings::default();
        assert!(judge("https://example.com/hook?x=1", &strict).is_ok());
        for it in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://127.1/",
            "https://[::1]/",
            "https://[::ffff:169.254.169.254]/latest",
            "http://example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "https://user:pw@example.com/",
            "nonsense",
            "https://",
            "gopher://x",
        ] {
            assert!(judge(it, &strict).is_err(), "{it}");
        }
        assert!(judge(&format!("https://example.com/{}", "x".repeat(3_000)), &strict).is_err());
        let open = HookSettings { private: true, plaintext: true, ..HookSettings::default() };
        assert!(judge("http://127.0.0.1:8080/hook", &open).is_ok());
    }

    #[test]
    fn a_name_that_leads_home_is_refused_when_it_is_looked_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let look = |settings: &HookSettings| {
            let url = Url::parse("https://localhost:8443/").unwrap();
            runtime.block_on(addresses(&url, settings))
        };
        assert!(look(&HookSettings::default()).unwrap_err().contains("webhooks.private"));
        let open = HookSettings { private: true, ..HookSettings::default() };
        let found = look(&open).unwrap();
        assert!(found.iter().all(|it| it.ip().is_loopback() && it.port() == 8443), "{found:?}");
    }
}
