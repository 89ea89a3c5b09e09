//! Uses the published test vectors of Web Push to check that the test code decrypts messages and verifies tokens correctly.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ece::EcKeyComponents;

use crate::support::push::{OTHER_KEY, vapid};

fn bytes(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// RFC 8291, section 5, contains this example.
#[test]
fn decrypts_the_example_message_of_rfc_8291() {
    let auth = bytes("BTBZMqHH6r4Tts7J_aSIgg");
    let body = bytes(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3\
         jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
    );
    let key = EcKeyComponents::new(bytes(OTHER_KEY[0]), bytes(OTHER_KEY[1]));
    let text = ece::decrypt(&key, &auth, &body).unwrap();
    assert_eq!(text, b"When I grow up, I want to be a watermelon");
}

/// RFC 8292, section 2.4, contains this example.
#[test]
fn verifies_the_example_token_of_rfc_8292() {
    let (claims, _) = vapid(
        "vapid t=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1\
         YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkS\
         SHzvoD1oA, k=BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs",
    );
    let expected =
        serde_json::json!({"aud": "https://push.example.net", "exp": 1_453_523_768, "sub": "mailto:push@example.com"});
    assert_eq!(claims, expected);
}
