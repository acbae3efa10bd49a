"""What a failed call says about settings, credentials, the network or permissions: one line for whoever runs this.

Pure: an error goes in, words come out. Whether a storage does what is needed is `traits`'; what a running server makes
of it, `failures`'.
"""

from __future__ import annotations

import re
import socket
import ssl

from botocore.exceptions import BotoCoreError

from tusd_py.stores.s3.client import S3Error, Unclear

_TOLD = re.compile(r"(\w+): (\d{3}) ([^:]*): (.*)", re.DOTALL)
_RIGHT_REGION = re.compile(r"expecting\W+(?:\w+;)?([a-z0-9-]+)")
_THROTTLED = {"SlowDown", "TooManyRequests", "ServiceUnavailable", "ThrottlingException", "RequestLimitExceeded"}

_FATAL = {
    "AccountProblem": "the storage has a problem with the account: see its console",
    "AllAccessDisabled": "the storage has disabled all access to the bucket: see its console",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_REGION{region}",
    "CredentialRetrievalError": "the credentials cannot be had: see the profile, or the role of the machine",
    "ExpiredToken": "the session token has expired: renew it, or use credentials that boto3 can renew by itself",
    "IllegalLocationConstraintException": "the bucket is in another region: set AWS_REGION{region}",
    "InvalidAccessKeyId": "the storage does not know the access key: correct AWS_ACCESS_KEY_ID or the profile",
    "InvalidBucketName": "no bucket can have the name {bucket!r}: correct it",
    "InvalidRegion": "the bucket is in another region: set AWS_REGION{region}",
    "InvalidToken": "the session token is wrong: correct AWS_SESSION_TOKEN or the profile",
    "NoCredentialsError": "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
    "NoSuchBucket": "there is no bucket {bucket!r}: create it, or correct its name",
    "PermanentRedirect": "the bucket is in another region, or behind another endpoint: set AWS_REGION{region}",
    "RequestExpired": "the clock of this machine is wrong by more than 15 minutes: set it by NTP",
    "RequestTimeTooSkewed": "the clock of this machine is wrong by more than 15 minutes: set it by NTP",
    "SignatureDoesNotMatch": "the secret key is wrong: correct AWS_SECRET_ACCESS_KEY or the profile",
    "XAdminUserNotFound": "the storage does not know the access key: correct AWS_ACCESS_KEY_ID or the profile",
}
_NETWORK = {"ConnectTimeoutError", "EndpointConnectionError", "ProxyConnectionError", "SSLError"}

_ACTIONS = {
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "GetObject": "s3:GetObject",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "GetObjectTagging": "s3:GetObjectTagging",
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListObjectVersions": "s3:ListBucketVersions",
    "ListObjectsV2": "s3:ListBucket",
    "ListParts": "s3:ListMultipartUploadParts",
    "UploadPartCopy": "s3:GetObject and s3:PutObject",
}


def told(error: BaseException) -> S3Error | None:
    """What the storage said, where it said something; also where that leaves open what became of the call."""
    if isinstance(error, S3Error):
        return error if error.status else None
    found = _TOLD.fullmatch(str(error)) if isinstance(error, Unclear) else None
    return S3Error(found[1], int(found[2]), found[3], found[4]) if found is not None else None


def refusal(error: BaseException) -> S3Error | None:
    """What the storage said, where it was final; 501 is that, too: it does not know such a call."""
    said = told(error)
    return said if isinstance(error, S3Error) or (said is not None and said.status == 501) else None


def is_throttled(error: Unclear) -> bool:
    """The storage has not carried out the call, since there were too many."""
    said = told(error)
    return said is not None and (said.status == 429 or said.code in _THROTTLED)


def operation(name: str) -> str:
    """An operation as S3 calls it, of boto3's name for it."""
    return name if name[:1].isupper() else "".join(word.title() for word in name.split("_"))


def action(name: str) -> str:
    """The permission (of IAM) that an operation needs."""
    return _ACTIONS.get(operation(name), "s3:PutObject")


def fatal(error: BaseException, bucket: str) -> str | None:
    """What to do, where no other call can fare better; None where it may."""
    if isinstance(error, S3Error) and (error.code in _FATAL or error.status in (301, 307)):
        line = _FATAL.get(error.code, _FATAL["PermanentRedirect"])
        region = _RIGHT_REGION.search(str(error))
        return line.format(bucket=bucket, region=f" to {region[1]}" if region else "") + f" ({error.code})"
    if isinstance(error, S3Error) and error.code in _NETWORK:
        return _network(error, str(error))
    if isinstance(error, BotoCoreError):
        return f"the credentials cannot be had: {error}"
    if isinstance(error, Unclear) and (cause := _system_error(error)) is not None:
        return _network(cause, str(error).partition(": ")[2])
    return None


def _system_error(error: BaseException | None) -> OSError | None:
    """What the operating system said, if no connection came about."""
    text = str(error)
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    if error is None and "no connection within" in text:
        return TimeoutError(text)
    return error


def _network(error: Exception, reason: str) -> str:
    reason = " ".join(reason.split())
    if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in reason:
        return f"the certificate of the storage is not trusted: let AWS_CA_BUNDLE name the file of its CA ({reason})"
    if isinstance(error, ssl.SSLError):
        return f"TLS fails: see whether the endpoint is https:// at all ({reason})"
    if isinstance(error, socket.gaierror):
        return f"the host of the storage has no address: correct --s3-endpoint or AWS_REGION ({reason})"
    return f"the storage cannot be reached: correct --s3-endpoint, or see whether it runs ({reason})"


def no_s3(error: S3Error) -> str | None:
    """Whether the answer to a read of a key that does not exist is none that S3 gives."""
    if error.code in ("NoSuchKey", "AccessDenied") or error.status not in (400, 403, 404, 405):
        return None
    return f"what answers does not do so as S3 does ({error}): correct --s3-endpoint"
