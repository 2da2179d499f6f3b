"""Home Assistant itself, without its frontend: its core, its registries, its HTTP API and its MQTT integration.

    home_assistant.py CONFIG_FOLDER HTTP_PORT BROKER_PORT

Prints `token TOKEN` once its REST API answers. It ends when its standard input does.
"""

import asyncio
import json
import logging
import pathlib
import sys

import jwt
from homeassistant import bootstrap, config_entries, core, loader
from homeassistant.auth import auth_manager_from_config
from homeassistant.util.dt import utcnow

KEY = "0123456789abcdef" * 4


def store(folder, name, data):
    text = json.dumps({"version": 1, "minor_version": 1, "key": name, "data": data})
    (folder / ".storage" / name).write_text(text)


def prepare(folder, broker_port):
    (folder / ".storage").mkdir()
    # The integration reads it again.
    (folder / "configuration.yaml").write_text("")
    user = {"id": "user", "group_ids": ["system-admin"], "is_owner": True, "is_active": True, "name": "test",
            "system_generated": False, "local_only": False}
    group = {"id": "system-admin", "name": "Administrators"}
    token = {"id": "token", "user_id": "user", "client_id": None, "client_name": "test", "client_icon": None,
             "token_type": "long_lived_access_token", "created_at": utcnow().isoformat(),
             "access_token_expiration": 315360000.0, "token": "0", "jwt_key": KEY, "last_used_at": None,
             "last_used_ip": None, "expire_at": None, "credential_id": None, "version": "0"}
    store(folder, "auth", {"users": [user], "groups": [group], "credentials": [], "refresh_tokens": [token]})
    entry = {"entry_id": "mqtt", "version": 1, "minor_version": 1, "domain": "mqtt", "title": "mqtt",
             "data": {"broker": "127.0.0.1", "port": broker_port, "discovery": True}, "options": {},
             "pref_disable_new_entities": False, "pref_disable_polling": False, "source": "user",
             "unique_id": None, "disabled_by": None}
    store(folder, "core.config_entries", {"entries": [entry]})
    now = int(utcnow().timestamp())
    return jwt.encode({"iss": "token", "iat": now - 60, "exp": now + 10**7}, KEY, algorithm="HS256")


async def registries(hass):
    """Loads what the users' store looks at."""
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    loader.async_setup(hass)
    await bootstrap.async_load_base_functionality(hass)
    # The start makes an empty one in its place.
    config_entries.ConfigEntries = lambda *_: hass.config_entries


async def main(folder, http_port, broker_port):
    folder = pathlib.Path(folder)
    token = prepare(folder, int(broker_port))
    hass = core.HomeAssistant(str(folder))
    hass.config.skip_pip = True
    await registries(hass)
    hass.auth = await auth_manager_from_config(hass, [], [])
    # What a home does not need to see its entities.
    bootstrap.DEFAULT_INTEGRATIONS.clear()
    http = {"server_host": ["127.0.0.1"], "server_port": int(http_port)}
    await bootstrap.async_from_config_dict({"http": http, "api": {}}, hass)
    await hass.async_start()
    print("token", token, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await hass.async_stop(force=True)


logging.basicConfig(level=logging.WARNING)
asyncio.run(main(*sys.argv[1:]))
