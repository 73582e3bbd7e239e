import base64

from service.alerts.signature import secret_text, sign


def test_the_example_of_standard_webhooks_is_signed_as_its_libraries_do():
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_holds_its_key_in_plain_base64():
    key = bytes(range(224, 256))
    kind, _, encoded = secret_text(key).partition("_")
    assert kind == "whsec"
    assert base64.b64decode(encoded, validate=True) == key
