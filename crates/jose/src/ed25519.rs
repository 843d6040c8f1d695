//! Checks of Ed25519 public keys. aws-lc-rs accepts any 32 bytes as a key.

use curve25519_dalek::edwards::CompressedEdwardsY;

/// Whether the bytes are the canonical encoding of a point (RFC 8032 §5.1.3) that does not have small order.
///
/// Anyone can forge signatures that verify under a point of small order, without a private key.
pub(crate) fn is_valid_public_key(encoded: &[u8]) -> bool {
    let Ok(encoded) = CompressedEdwardsY::from_slice(encoded) else {
        return false;
    };
    // `decompress` also accepts y ≥ p and a negative zero; only the canonical encoding survives the way back.
    encoded.decompress().is_some_and(|point| point.compress() == encoded && !point.is_small_order())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn keys_of_rfc_8032_are_valid() {
        for key in [
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        ] {
            assert!(is_valid_public_key(&bytes(key)), "{key}");
        }
    }

    #[test]
    fn points_off_the_curve_other_encodings_and_points_of_small_order_are_rejected() {
        for key in [
            // y = 2 has no x.
            "0200000000000000000000000000000000000000000000000000000000000000",
            // p itself, and p + 3: not canonical.
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            // The neutral element with a negative zero as x: not canonical.
            "0100000000000000000000000000000000000000000000000000000000000080",
            // Orders 1, 2, 4 and 8.
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        ] {
            assert!(!is_valid_public_key(&bytes(key)), "{key}");
        }
    }

    #[test]
    fn keys_of_another_length_are_rejected() {
        for length in [0, 31, 33] {
            assert!(!is_valid_public_key(&vec![9; length]), "{length}");
        }
    }
}
