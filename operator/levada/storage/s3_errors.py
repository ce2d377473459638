"""What S3's refusals mean, and what to do about them. Pure: an error of botocore in, an error of ours out."""

from typing import Any

from levada.exceptions import StorageError

_NO_KEY = frozenset({"NoSuchKey", "404", "NotFound"})
_RIGHTS = {
    "read": "s3:GetObject and s3:ListBucket",
    "write": "s3:PutObject",
    "delete": "s3:DeleteObject",
    "list": "s3:ListBucket",
}
_WRONG_KEYS = (
    "the access key or its secret is wrong; check aws_access_key_id and aws_secret_access_key, or AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY in the environment"
)
_ELSEWHERE = "the bucket is in another region; set region_name (or AWS_REGION) to the bucket's own"
_UNREACHABLE = "nothing answers there; check endpoint_url, the network and its proxy"
# By the code in S3's answer.
_ANSWERS = {
    "InvalidAccessKeyId": _WRONG_KEYS,
    "SignatureDoesNotMatch": _WRONG_KEYS,
    "AuthFailure": _WRONG_KEYS,
    "InvalidClientTokenId": _WRONG_KEYS,
    "InvalidToken": "the session token is wrong; get new credentials",
    "ExpiredToken": "the credentials have expired; get new ones",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "PermanentRedirect": _ELSEWHERE,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "301": _ELSEWHERE,
    "InvalidBucketName": "S3 allows no such bucket name; check it",
    "SlowDown": "S3 asks for fewer requests, and went on asking; use fewer tasks at a time, or more prefixes",
}
# By the name of botocore's own error.
_FAILURES = {
    "NoCredentialsError": "there are no credentials; set aws_access_key_id and aws_secret_access_key in the block, AWS_ACCESS_KEY_ID "
    "and AWS_SECRET_ACCESS_KEY in the environment, or give the machine or pod a role",
    "PartialCredentialsError": "the credentials are incomplete; both the access key and its secret are needed",
    "CredentialRetrievalError": "the credentials could not be fetched; check the profile or role",
    "ProfileNotFound": "there is no such profile in ~/.aws; check profile_name or AWS_PROFILE",
    "NoRegionError": "no region is set; set region_name or AWS_REGION",
    "EndpointConnectionError": _UNREACHABLE,
    "ConnectTimeoutError": _UNREACHABLE,
    "ReadTimeoutError": _UNREACHABLE,
    "ConnectionClosedError": _UNREACHABLE,
    "ProxyConnectionError": "the proxy does not answer; check HTTPS_PROXY and NO_PROXY",
    "SSLError": "the certificate is not trusted; check endpoint_url, or give the CA bundle by verify=",
    "ParamValidationError": "S3 allows no such name; check bucket and key",
    "InvalidRegionError": "there is no such region; check region_name",
}


def explained(error: Any, verb: str, key: str, bucket: str, place: str) -> Exception:
    """The error to raise: KeyError for an object that is not there, else a StorageError with cause and fix.

    Args:
        error: botocore's ClientError or BotoCoreError.
        verb: what was tried: read, write, delete or list.
        key: on what.
        bucket: the bucket's name.
        place: the storage in words.
    """
    told = error.response.get("Error", {}) if hasattr(error, "response") else {}
    code = str(told.get("Code", ""))
    if code in _NO_KEY and verb in ("read", "delete"):
        return KeyError(key)
    what = f"{verb} {key!r}" if key else verb
    return StorageError(f"{_advice(error, told, code, verb, bucket)} (cannot {what} in {place})")


def _advice(error: Any, told: dict[str, Any], code: str, verb: str, bucket: str) -> str:
    if code == "NoSuchBucket" or code in _NO_KEY:  # some services call a missing bucket a missing key
        return f"there is no bucket {bucket!r}; create it, or correct its name"
    if code in ("AccessDenied", "403", "AllAccessDisabled"):
        return f"access denied; these credentials need {_RIGHTS[verb]} on the bucket {bucket!r}"
    known = _ANSWERS.get(code)
    if known:
        return known
    if code:
        return f"S3 answered {code}: {told.get('Message', '')}".rstrip(": ")
    for kind in type(error).__mro__:
        if kind.__name__ in _FAILURES:
            return _FAILURES[kind.__name__]
    return f"{type(error).__name__}: {error}"
