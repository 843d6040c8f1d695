//! Whether 32 bytes are an Ed25519 public key: the library takes any, and verifies nothing with what is no point.

use rsa::BigUint;

/// Whether the bytes are the one encoding of a point on the curve (RFC 8032, 5.1.3), and not one of the eight whose
/// order is so small that a signature can be made up for them without a private key.
pub(super) fn is_sound(encoded: &[u8]) -> bool {
    let one = BigUint::from(1_u8);
    let p = (&one << 255) - BigUint::from(19_u8);
    let inverse = |number: &BigUint| number.modpow(&(&p - BigUint::from(2_u8)), &p);

    let mut little_endian = encoded.to_vec();
    // The highest bit is the sign of x, which every x but 0 can have.
    if let Some(byte) = little_endian.last_mut() {
        *byte &= 0x7f;
    }
    let y = BigUint::from_bytes_le(&little_endian);
    if y >= p {
        return false;
    }

    // -x² + y² = 1 + d·x²·y², so that x² = (y² - 1) / (d·y² + 1), which must be a square.
    let d = &p - (BigUint::from(121_665_u32) * inverse(&BigUint::from(121_666_u32))) % &p;
    let yy = (&y * &y) % &p;
    let xx = ((&yy + &p - &one) * inverse(&((&d * &yy + &one) % &p))) % &p;
    if xx == BigUint::from(0_u8) {
        // Orders 1 and 2.
        return false;
    }
    let is_square = xx.modpow(&((&p - &one) >> 1), &p) == one;

    // Order 4 has y = 0; the double of order 8 has, which by the law of addition is d·y⁴ + 2·y² = 1.
    let is_small = y == BigUint::from(0_u8) || (&d * &yy * &yy + &yy + &yy) % &p == one;
    is_square && !is_small
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
    fn keys_of_rfc_8032_are_sound() {
        for key in [
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        ] {
            assert!(is_sound(&bytes(key)), "{key}");
        }
    }

    #[test]
    fn what_is_no_point_or_one_of_small_order_is_not_sound() {
        for key in [
            // y = 2 has no x.
            "0200000000000000000000000000000000000000000000000000000000000000",
            // p itself, and p + 3: not the one encoding.
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            // Orders 1, 2, 4 and 8.
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        ] {
            assert!(!is_sound(&bytes(key)), "{key}");
        }
    }
}
