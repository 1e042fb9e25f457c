"""Golden bodies: every field of the API reference, typed from it, beside the value that each one is.

The bytes are what goes over the wire, to the byte: a test that compares with them notices a renamed field, a changed
order, a blank, an escaped character.
"""

import datetime as dt

import kustom_hpp as hpp

ORDER_URL = "https://api.playground.kustom.co/checkout/v3/orders/0b1cf1a4-9d5c-4a3e-8f6a-2f0d9f8e7a11"
MINIMAL_REQUEST = hpp.CreateSessionRequest(payment_session_url=ORDER_URL)
MINIMAL_BODY = b'{"payment_session_url":"%s"}' % ORDER_URL.encode()

FULL_REQUEST = hpp.CreateSessionRequest(
    payment_session_url=ORDER_URL,
    profile_id="5a1d0c9e-73d5-4f8e-b3a5-1c2f6a7e9d00",
    merchant_urls=hpp.MerchantUrls(
        success="https://shop.example/thanks?hpp={{session_id}}&order={{order_id}}",
        cancel="https://shop.example/cancel?hpp={{session_id}}",
        back="https://shop.example/basket",
        failure="https://shop.example/declined",
        error="",
        status_update="https://shop.example/hpp/status?hpp={{session_id}}&secret=s3cr3t-0f-th1s-0rd3r",
    ),
    options=hpp.Options(
        background_images=(
            hpp.BackgroundImage(url="https://cdn.shop.example/wide.jpg", width=1280),
            hpp.BackgroundImage(url="https://cdn.shop.example/any.jpg"),
        ),
        logo_url="https://cdn.shop.example/logo.svg",
        page_title='Kasse "Öre" 🛒',
        payment_method_categories=(hpp.PaymentMethodCategory.PAY_LATER, hpp.PaymentMethodCategory.KLARNA),
        place_order_mode=hpp.PlaceOrderMode.CAPTURE_ORDER,
        purchase_type=hpp.PurchaseType.SUBSCRIBE,
        show_subtotal_detail=hpp.ShowSubtotalDetail.HIDE,
    ),
)
FULL_BODY = (
    b'{"payment_session_url":"https://api.playground.kustom.co/checkout/v3/orders/0b1cf1a4-9d5c-4a3e-8f6a-2f0d9f8e7a11",'
    b'"profile_id":"5a1d0c9e-73d5-4f8e-b3a5-1c2f6a7e9d00",'
    b'"merchant_urls":{'
    b'"success":"https://shop.example/thanks?hpp={{session_id}}&order={{order_id}}",'
    b'"cancel":"https://shop.example/cancel?hpp={{session_id}}",'
    b'"back":"https://shop.example/basket",'
    b'"failure":"https://shop.example/declined",'
    b'"error":"",'
    b'"status_update":"https://shop.example/hpp/status?hpp={{session_id}}&secret=s3cr3t-0f-th1s-0rd3r"},'
    b'"options":{'
    b'"background_images":[{"url":"https://cdn.shop.example/wide.jpg","width":1280},'
    b'{"url":"https://cdn.shop.example/any.jpg"}],'
    b'"logo_url":"https://cdn.shop.example/logo.svg",'
    b'"page_title":"Kasse \\"\xc3\x96re\\" \xf0\x9f\x9b\x92",'
    b'"payment_method_categories":["PAY_LATER","KLARNA"],'
    b'"place_order_mode":"CAPTURE_ORDER",'
    b'"purchase_type":"SUBSCRIBE",'
    b'"show_subtotal_detail":"HIDE"}}'
)

SESSION_ID = "9f8d3c1e-52b7-4c0e-8a64-7d1c0b9e2f33"
REDIRECT_URL = "https://pay.playground.kustom.co/eu/hpp/payments/3kXw9Qa"
MINIMAL_ANSWER = b'{"session_id":"%s","redirect_url":"%s"}' % (SESSION_ID.encode(), REDIRECT_URL.encode())
FULL_ANSWER = (
    b'{"session_id":"9f8d3c1e-52b7-4c0e-8a64-7d1c0b9e2f33",'
    b'"redirect_url":"https://pay.playground.kustom.co/eu/hpp/payments/3kXw9Qa",'
    b'"session_url":"https://api.playground.kustom.co/hpp/v1/sessions/9f8d3c1e-52b7-4c0e-8a64-7d1c0b9e2f33",'
    b'"distribution_url":'
    b'"https://api.playground.kustom.co/hpp/v1/sessions/9f8d3c1e-52b7-4c0e-8a64-7d1c0b9e2f33/distribution",'
    b'"qr_code_url":"https://pay.playground.kustom.co/eu/hpp/payments/3kXw9Qa/qr",'
    b'"manual_identification_check_url":'
    b'"https://api.playground.kustom.co/hpp/v1/sessions/9f8d3c1e-52b7-4c0e-8a64-7d1c0b9e2f33/manual-id-check",'
    b'"expires_at":"2038-01-19T03:14:07.250Z",'
    b'"distribution_module":{'
    b'"token":"eyJhbGciOiJub25lIn0",'
    b'"standalone_url":"https://pay.playground.kustom.co/eu/module?profile={{profile_id}}&view={{view_id}}",'
    b'"generation_url":"https://api.playground.kustom.co/hpp/v1/sessions/9f8d/distribution-module/token"}}'
)
FULL_SESSION = hpp.Session(
    session_id=SESSION_ID,
    redirect_url=REDIRECT_URL,
    session_url=f"https://api.playground.kustom.co/hpp/v1/sessions/{SESSION_ID}",
    distribution_url=f"https://api.playground.kustom.co/hpp/v1/sessions/{SESSION_ID}/distribution",
    qr_code_url=f"{REDIRECT_URL}/qr",
    manual_identification_check_url=f"https://api.playground.kustom.co/hpp/v1/sessions/{SESSION_ID}/manual-id-check",
    expires_at=dt.datetime(2038, 1, 19, 3, 14, 7, 250_000, tzinfo=dt.UTC),
    distribution_module=hpp.DistributionModule(
        token="eyJhbGciOiJub25lIn0",
        standalone_url="https://pay.playground.kustom.co/eu/module?profile={{profile_id}}&view={{view_id}}",
        generation_url="https://api.playground.kustom.co/hpp/v1/sessions/9f8d/distribution-module/token",
    ),
)

READ_AT = dt.datetime(2038, 1, 17, 9, 26, 53, 125_000, tzinfo=dt.UTC)
MINIMAL_DETAILS = b'{"session_id":"%s"}' % SESSION_ID.encode()
FULL_DETAILS = (
    b'{"session_id":"9f8d3c1e-52b7-4c0e-8a64-7d1c0b9e2f33",'
    b'"status":"COMPLETED",'
    b'"updated_at":"2038-01-17T09:26:53.125Z",'
    b'"expires_at":"2038-01-19T03:14:07.250Z",'
    b'"authorization_token":"7a0b6a1f-0f7e-4f0c-b5b7-2f8d57c5f6a1",'
    b'"order_id":"0b1cf1a4-9d5c-4a3e-8f6a-2f0d9f8e7a11",'
    b'"klarna_reference":"QX4T71RP",'
    b'"customer":{'
    b'"date_of_birth":"1971-03-14",'
    b'"family_name":"\xc3\x96berg",'
    b'"given_name":"Alva",'
    b'"national_identification_number":"19710314-0000",'
    b'"title":"Ms"},'
    b'"manual_identification":{'
    b'"challenge":"B42",'
    b'"customer":{"given_name":"Alva"},'
    b'"customer_obfuscated":{"date_of_birth":"****-**-14","family_name":"\xc3\x96*****"},'
    b'"expires_at":"2038-01-17T10:26:53.125Z"}}'
)
FULL_SESSION_DETAILS = hpp.SessionDetails(
    session_id=SESSION_ID,
    status=hpp.SessionStatus.COMPLETED,
    updated_at=READ_AT,
    expires_at=dt.datetime(2038, 1, 19, 3, 14, 7, 250_000, tzinfo=dt.UTC),
    authorization_token="7a0b6a1f-0f7e-4f0c-b5b7-2f8d57c5f6a1",
    order_id="0b1cf1a4-9d5c-4a3e-8f6a-2f0d9f8e7a11",
    klarna_reference="QX4T71RP",
    customer=hpp.Customer(
        date_of_birth="1971-03-14",
        family_name="Öberg",
        given_name="Alva",
        national_identification_number="19710314-0000",
        title="Ms",
    ),
    manual_identification=hpp.ManualIdentification(
        challenge="B42",
        customer=hpp.Customer(given_name="Alva"),
        customer_obfuscated=hpp.Customer(date_of_birth="****-**-14", family_name="Ö*****"),
        expires_at=dt.datetime(2038, 1, 17, 10, 26, 53, 125_000, tzinfo=dt.UTC),
    ),
)

DISTRIBUTIONS: list[tuple[hpp.Distribution, bytes]] = [
    (
        hpp.EmailDistribution(email="alva@shop.example"),
        b'{"method":"email","contact_information":{"email":"alva@shop.example"}}',
    ),
    (
        hpp.SmsDistribution(phone="070 123 45 67", phone_country="SE"),
        b'{"method":"sms","contact_information":{"phone":"070 123 45 67","phone_country":"SE"}}',
    ),
    (
        hpp.TokenDistribution(access_id='app:3f "7"'),
        b'{"method":"token","contact_information":{"access_id":"app:3f \\"7\\""}}',
    ),
    (
        hpp.EmailDistribution(
            email="alva@öl.example",
            template=hpp.DistributionTemplate.INSTORE_PURCHASE,
            extra={"contact_information": {"phone": "0701234567"}, "new": {"a": [1]}},
        ),
        (
            b'{"method":"email","contact_information":{"email":"alva@\xc3\xb6l.example","phone":"0701234567"},'
            b'"template":"INSTORE_PURCHASE","new":{"a":[1]}}'
        ),
    ),
]
