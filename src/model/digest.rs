//! Two digests: one that nobody can forge, one that is quick.

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;

/// SHA-256 of some bytes: what people, the API and the journal compare.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Sha256 {
        Sha256(sha2::Sha256::digest(bytes).into())
    }

    /// The digest that names a drop: of where it lay and of its bytes.
    ///
    /// The length comes first, so that no name and content can be shifted into another pair.
    pub fn of_drop(raw_path: &[u8], bytes: &[u8]) -> Sha256 {
        let mut hasher = sha2::Sha256::new();
        hasher.update((raw_path.len() as u64).to_be_bytes());
        hasher.update(raw_path);
        hasher.update(bytes);
        Sha256(hasher.finalize().into())
    }

    /// The keyed digest of a message that only who has the key can make (HMAC, RFC 2104).
    pub fn hmac(key: &[u8], message: &[u8]) -> Sha256 {
        let mut block = [0; 64];
        let short: Sha256;
        let key = match key.len() > block.len() {
            true => {
                short = Sha256::of(key);
                short.as_bytes()
            }
            false => key,
        };
        block[..key.len()].copy_from_slice(key);
        let keyed = |pad: u8| sha2::Sha256::new().chain_update(block.map(|it| it ^ pad));
        let inner = keyed(0x36).chain_update(message).finalize();
        Sha256(keyed(0x5c).chain_update(inner).finalize().into())
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first twelve hexadecimal digits, for names of files.
    pub fn short(&self) -> String {
        self.to_string().chars().take(12).collect()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Sha256 {
    type Error = String;
    fn try_from(text: String) -> Result<Sha256, String> {
        let wrong = || format!("`{text}` is no SHA-256");
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Sha256(bytes))
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> String {
        digest.to_string()
    }
}

/// XXH3 (128 bit) of some bytes or of parsed content: quick, but not safe against an attacker,
/// so it decides what to look at again, never what may be thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Xxh3(pub u128);

impl Xxh3 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Xxh3 {
        Xxh3(xxhash_rust::xxh3::xxh3_128(bytes))
    }
}

impl fmt::Display for Xxh3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl TryFrom<String> for Xxh3 {
    type Error = String;
    fn try_from(text: String) -> Result<Xxh3, String> {
        u128::from_str_radix(&text, 16).map(Xxh3).map_err(|_| format!("`{text}` is no XXH3 digest"))
    }
}

impl From<Xxh3> for String {
    fn from(digest: Xxh3) -> String {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_digests_are_those_of_the_standard() {
        // RFC 4231, cases 1, 2, 3, 6 and 7: keys shorter and longer than a block.
        let cases: [(&[u8], &[u8], &str); 5] = [
            (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
            (&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First", "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
            (
                &[0xaa; 131],
                b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.",
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ];
        for (key, message, wanted) in cases {
            assert_eq!(Sha256::hmac(key, message).to_string(), wanted);
        }
    }
}
