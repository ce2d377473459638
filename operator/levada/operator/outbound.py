"""Handing a message over to somebody else's server, on behalf of people who may not have the operator's place in the network.

Who may be reached is checked where the address is known, after the name has been resolved, so a name that resolves to
something else the next time does not help. Nothing that a server answers is shown but its status: it could be anybody's.
Each try has a time limit, and each host a bounded number of tries at a time.
"""

import asyncio
import hashlib
import ipaddress
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from fnmatch import fnmatch
from typing import Final, Self
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from levada._delivery import Refusal, Request, Trouble, connection_problem, problem_of_answer
from levada._mail import Server, send_mail

LIMIT_S: Final = 10.0
AT_A_TIME: Final = 16  # requests per host and port
MAILS_AT_A_TIME: Final = 4  # per server; each has a thread
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
# Where clouds tell a machine its own credentials; the link-local one is refused with its kind.
_METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# The message cannot be taken as it is; a later try would meet the same.
_THE_MESSAGE_ITSELF: Final = frozenset({400, 413, 422})


class Unacceptable(Exception):  # noqa: N818  never leaves the operator
    """The receiver cannot take this very message: others it may."""


class Forbidden(Exception):  # noqa: N818  never leaves the operator
    """The operator's settings do not let it reach the receiver."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message on its way: an HTTP request or a mail."""

    request: Request | None = None
    mail: tuple[Server, EmailMessage] | None = None

    @property
    def host(self) -> str:
        """The host that it goes to."""
        if self.mail is not None:
            return self.mail[0].host.lower()
        return (urlsplit(self.request.url).hostname or "").lower() if self.request is not None else ""

    @property
    def authority(self) -> str:
        """Host and port."""
        if self.mail is not None:
            return f"{self.host}:{self.mail[0].port}"
        return urlsplit(self.request.url).netloc.rpartition("@")[2].lower() if self.request is not None else ""

    @property
    def receiver(self) -> str:
        """Who gets it, as a word that gives nothing away: the same for all messages to one address."""
        if self.mail is not None:
            whole = f"{self.mail[0].host}:{self.mail[0].port} {self.mail[1]['To']}"
        else:
            whole = self.request.url if self.request is not None else ""
        return hashlib.sha256(whole.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Guard:
    """Which hosts may be reached.

    allow: patterns of host names such as `hooks.slack.com` or `*.example.com`; none: every name. A host that is named in full
        may be at any address; the others never at one of this machine's or of a cloud's metadata.
    """

    allow: tuple[str, ...] = ()

    def check_name(self, host: str) -> None:
        """Check a host before anything is sent.

        Raises:
            Forbidden: it may not be reached.
        """
        if self.allow and not any(fnmatch(host.lower(), pattern.lower()) for pattern in self.allow):
            raise Forbidden(f"the operator may not reach {host}: its --notify-allow lists only {', '.join(self.allow)}")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return  # a name: its addresses are checked when they are known
        self.check_address(host, str(address))

    def check_address(self, host: str, text: str) -> None:
        """Check an address that a host has turned out to be at.

        Raises:
            Forbidden: it may not be reached.
        """
        if host.lower() not in map(str.lower, self.allow) and _is_local(ipaddress.ip_address(text.partition("%")[0])):
            others = "" if self.allow else " (and with --notify-allow '*', or nothing else may be reached)"
            raise Forbidden(
                f"{host} is at {text}, an address of the operator's own machine or of a cloud's metadata: such are refused "
                f"unless the operator was started with --notify-allow {host}{others}"
            )


def _is_local(address: Address) -> bool:
    """Whether an address leads back to this machine or to what a machine is told about itself."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_local(inner)
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address in _METADATA
    )


class Sender:
    """Sends parcels. Use as an async context manager."""

    def __init__(self, guard: Guard, *, limit_s: float = LIMIT_S) -> None:
        self._guard = guard
        self._limit_s = limit_s
        self._threads: ThreadPoolExecutor | None = None
        # By host, as long as anybody is in one: hosts come and go.
        self._lanes: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._mailing: Counter[str] = Counter()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        # Look-ups of names can hang for long: they must not use up the threads of everybody else.
        self._threads = ThreadPoolExecutor(8, "levada-resolve")
        connector = aiohttp.TCPConnector(
            resolver=_CheckedResolver(self.addresses), limit=0, limit_per_host=0, ttl_dns_cache=10
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._limit_s),
            trust_env=True,  # the usual variables name the proxy of a cluster that has no other way out
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "levada-operator"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it; what is on its way is dropped, and sent again after the next start."""
        assert self._session is not None
        assert self._threads is not None
        await self._session.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def send(self, parcel: Parcel) -> None:
        """One try, of at most the time limit once it is the parcel's turn.

        Raises:
            Trouble: no answer, or one that says "later".
            Refusal: an answer that says no, until somebody mends it.
            Unacceptable: an answer that says no to this message.
            Forbidden: the host may not be reached.
        """
        self._guard.check_name(parcel.host)
        lane = self._lanes.setdefault(parcel.authority, asyncio.Semaphore(AT_A_TIME))
        async with lane:
            if parcel.request is not None:
                await self._post(parcel.request)
            elif parcel.mail is not None:
                await self._mail(*parcel.mail)

    async def _post(self, request: Request) -> None:
        assert self._session is not None
        try:
            async with self._session.request(
                request.method, request.url, data=request.body, headers=dict(request.headers), allow_redirects=False
            ) as answer:
                code, later = answer.status, answer.headers.get("Retry-After", "")
        except TimeoutError:
            raise Trouble(f"no answer within {self._limit_s:g} s") from None
        except aiohttp.InvalidURL:
            raise Refusal("its URL is none that can be sent to") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise Trouble(connection_problem(error.certificate_error)) from None
        except aiohttp.ClientConnectorError as error:
            raise Trouble(connection_problem(error.os_error)) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Trouble(f"the conversation failed ({type(error).__name__})") from None
        if code in _THE_MESSAGE_ITSELF:
            raise Unacceptable(f"HTTP {code}: it does not take this message")
        if not 200 <= code < 300:
            raise problem_of_answer(code, retry_after=later)

    async def _mail(self, server: Server, mail: EmailMessage) -> None:
        host = server.host.lower()
        # A server that answers one byte at a time keeps its thread beyond the time limit: so many and no more.
        if self._mailing[host] >= MAILS_AT_A_TIME:
            raise Trouble("the server is still busy with earlier mails")
        self._mailing[host] += 1
        thread: asyncio.Future[None] | None = None
        try:
            async with asyncio.timeout(self._limit_s):
                await self.addresses(server.host, server.port, socket.AF_UNSPEC)
                thread = _in_a_thread(lambda: send_mail(server, mail, self._limit_s))
                await asyncio.shield(thread)
        except TimeoutError:
            raise Trouble(f"no answer within {self._limit_s:g} s") from None
        except OSError as error:
            raise Trouble(connection_problem(error)) from None
        finally:
            if thread is None or thread.done():
                self._mailing[host] -= 1
            else:
                thread.add_done_callback(lambda late: self._let_go(host, late))

    def _let_go(self, host: str, late: "asyncio.Future[None]") -> None:
        self._mailing[host] -= 1
        late.exception()  # nobody waits for it any more

    async def addresses(self, host: str, port: int, family: int) -> list[tuple[int, int, str, int]]:
        """Family, protocol, address and port of a host, checked.

        Raises:
            OSError: there are none.
            Forbidden: one of them may not be reached.
        """
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        )
        for *_, address in found:
            self._guard.check_address(host, str(address[0]))
        return [(kind, protocol, str(address[0]), int(address[1])) for kind, _, protocol, _, address in found]


Addresses = Callable[[str, int, int], Awaitable[list[tuple[int, int, str, int]]]]


class _CheckedResolver(AbstractResolver):
    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=address, port=at, family=kind, proto=protocol, flags=socket.AI_NUMERICHOST
            )
            for kind, protocol, address, at in await self._addresses(host, port, family)
        ]

    async def close(self) -> None:
        pass


def _in_a_thread(work: Callable[[], None]) -> "asyncio.Future[None]":
    """Run it in a thread of its own: one that a server holds must not be missing elsewhere."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as caught:  # noqa: BLE001  handed to who waits
            error = caught
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(finish, error)

    threading.Thread(target=run, name="levada-mail", daemon=True).start()
    return done
