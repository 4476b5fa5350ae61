"""A mail server for tests, by aiosmtpd. Writes a line of JSON for its port and for each e-mail that it took; a line on its
standard input changes how it behaves; it ends when the input does."""

import argparse
import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

arguments = argparse.ArgumentParser()
arguments.add_argument("--port", type=int, default=0)
arguments.add_argument("--certificate")
arguments.add_argument("--key")
arguments.add_argument("--implicit", action="store_true")
arguments.add_argument("--user")
arguments.add_argument("--password")
given = arguments.parse_args()

behaviour = "accept"


def say(**words):
    print(json.dumps(words), flush=True)


def text_of(message, kind):
    part = message.get_body(preferencelist=(kind,))
    return part.get_content() if part else None


class Handler:
    async def handle_MAIL(self, server, session, envelope, address, options):
        if behaviour == "refuse-sender":
            return "550 5.7.1 we do not relay for you"
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if behaviour == "refuse" or address.startswith("unknown"):
            return f"550 5.1.1 <{address}> is not known here"
        if behaviour == "defer":
            return "451 4.7.1 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        say(
            to=envelope.rcpt_tos,
            sender=envelope.mail_from,
            headers={name.lower(): str(value) for name, value in message.items()},
            plain=text_of(message, "plain"),
            html=text_of(message, "html"),
            tls=session.ssl is not None or given.implicit,
            authenticated=bool(session.authenticated),
            raw=envelope.content.decode("utf-8", "replace"),
        )
        if behaviour == "swallow":
            await asyncio.sleep(3600)
        return "250 OK"


class Server(SMTP):
    async def _handle_client(self):
        if behaviour == "hang":
            await asyncio.sleep(3600)
        if behaviour == "slow":
            await asyncio.sleep(3)
        if behaviour == "turn-away":
            await self.push("554 5.3.2 no service here")
            self.transport.close()
            return
        await super()._handle_client()


def sign_in(server, session, envelope, mechanism, data):
    is_right = data.login == given.user.encode() and data.password == given.password.encode()
    return AuthResult(success=is_right, handled=is_right)


def protection():
    if not given.certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(given.certificate, given.key)
    return context


async def main():
    global behaviour
    loop = asyncio.get_running_loop()
    context = protection()

    def make():
        return Server(
            Handler(),
            hostname="mail.test",
            enable_SMTPUTF8=False,
            tls_context=None if given.implicit else context,
            require_starttls=bool(context) and not given.implicit,
            authenticator=sign_in if given.user else None,
            auth_required=bool(given.user),
            auth_require_tls=not given.implicit,
            loop=loop,
        )

    tls = context if given.implicit else None
    server = await loop.create_server(make, "127.0.0.1", given.port, ssl=tls)
    say(port=server.sockets[0].getsockname()[1])
    words = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(words), sys.stdin)
    while line := await words.readline():
        behaviour = line.decode().strip()
        say(behaviour=behaviour)


asyncio.run(main())
