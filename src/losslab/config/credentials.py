"""Secrets, which must not be settings because settings are recorded. Their values are never printed."""

import os
import re
from collections.abc import Sequence

from losslab.errors import Refused

SECRET = re.compile(r"(?:.*[._])?(?:api_?key|password|passwd|secret)|logger\.(?:.*[._])?(?:key|token)", re.IGNORECASE)
SECRETS = re.compile(  # variables of the environment
    r"AWS_(?:ACCESS|SECRET|SESSION).*|(?:.*_)?(?:API_?KEY|KEY|TOKEN|PASSWORD|PASSWD|PWD|PASS|SECRET|CREDENTIALS?|DSN)"
    r"|PGPASSWORD|\w*DATABASE_URL",
    re.IGNORECASE,
)
PLACES = ("PWD", "OLDPWD")  # folders, not passwords
LOGIN_IN_URL = re.compile(r"\w+://[^/\s:@]*:([^/\s@]+)@")
INSTEAD = "set WANDB_API_KEY in the environment, or run `wandb login` once"


def find_secrets() -> dict[str, str]:
    """Find the secrets in the environment, by the names of their variables."""
    found = {}
    for name, value in os.environ.items():
        if name not in PLACES and SECRETS.fullmatch(name) and len(value) >= 8:
            found[name] = value
        elif (login := LOGIN_IN_URL.match(value)) and len(login[1]) >= 8:
            found[name] = login[1]
    return found


def check_secrets(words: Sequence[str]) -> None:
    """Refuse a secret on the command line before anything repeats it. The refusal does not repeat it either."""
    secrets = find_secrets().values()
    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        if SECRET.fullmatch(key) or any(secret in word for secret in secrets):
            raise Refused(f"{key} holds a secret, which would be written into the run's record: {INSTEAD}")
