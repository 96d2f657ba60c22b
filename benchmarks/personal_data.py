"""How much of planted personal data is found by its form, and in how many texts that hold none something is found.

    python benchmarks/personal_data.py [--each 1000]

Both come from Faker: e-mail addresses, IBANs, card, telephone and national numbers of the countries that docs/data.md
names; and what looks alike: dates, prices, orders, codes, figures of an exercise.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from functools import partial

from faker import Faker

from alignment_worker.ingestion.personal_data import found

# What Faker has of docs/data.md's list; British, German and Indian ones it makes without their form or check digit.
NATIONAL = {
    "en_US": "ssn",
    "en_CA": "ssn",
    "pt_BR": "cpf",
    "fr_FR": "ssn",
    "it_IT": "ssn",
    "es_ES": "nif",
    "pl_PL": "pesel",
    "nl_BE": "ssn",
    "de_CH": "ssn",
    "sv_SE": "ssn",
    "fi_FI": "ssn",
    "no_NO": "ssn",
}
ACCOUNTS = [
    "de_DE",
    "fr_FR",
    "en_GB",
    "es_ES",
    "it_IT",
    "pl_PL",
    "nl_NL",
    "fi_FI",
    "no_NO",
    "de_CH",
    "de_AT",
    "tr_TR",
]
AROUND = (
    "Please write it down: {}. Thank you.",
    "{}",
    "My data are {}, what next?",
    "I was told to give you\n- {}\n- nothing else",
    "Is it ({}) still right?",
)
Maker = Callable[[], str]


def planted() -> Iterator[tuple[str, str, Maker]]:
    """Kind, locale, and what makes one."""
    for locale in ACCOUNTS:
        fake = Faker(locale)
        yield "Email", locale, fake.email
        yield "IBAN", locale, fake.iban
        yield "IBAN", f"{locale}, in fours", partial(_in_fours, fake.iban)
    fake = Faker("en_US")
    for issuer in ("visa", "mastercard", "amex", "discover", "diners", "jcb"):
        yield "Card", issuer, partial(fake.credit_card_number, issuer)
    yield "Card", "visa, in fours", partial(_in_fours, partial(fake.credit_card_number, "visa16"))
    for locale, method in NATIONAL.items():
        yield "NationalNumber", locale, getattr(Faker(locale), method)


def alike(draw: random.Random) -> Iterator[tuple[str, Maker]]:
    """What holds no personal data, and what makes one."""
    fake = Faker("en_US")
    yield "date and time", lambda: fake.date_time().isoformat(sep=draw.choice(" T"))
    yield "date", lambda: fake.date(draw.choice(["%d.%m.%Y", "%m/%d/%Y", "%Y-%m-%d", "%d %m %Y", "%Y%m%d"]))
    yield "price", lambda: f"{draw.randrange(10**7) / 100:,.2f} €"
    yield (
        "order",
        lambda: fake.bothify(draw.choice(["#########", "???-########", "##-####-####", "2026-#######"])),
    )
    yield "ten figures", lambda: fake.numerify("%#########")
    yield "sixteen figures", lambda: fake.numerify("%###############")
    yield "figures in threes", lambda: f"{draw.randrange(10**12):,}".replace(",", draw.choice(",. "))
    yield "exercise", lambda: f"{draw.randrange(10**6)} + {draw.randrange(10**6)} = {draw.randrange(10**7)}"
    yield "list of numbers", lambda: " ".join(str(draw.randrange(1000)) for _ in range(9))
    yield "UUID", fake.uuid4
    yield "digest", fake.sha256
    yield "IP address", fake.ipv4
    yield "MAC address", fake.mac_address
    yield "ISBN", fake.isbn13
    yield "EAN", fake.ean13
    yield "coordinates", lambda: f"{fake.latitude()}, {fake.longitude()}"
    yield "version", lambda: fake.numerify("#.##.#-rc#+########")
    yield "URL", lambda: f"https://example.org/{fake.uri_path()}?id={draw.randrange(10**9)}"
    yield "handle", lambda: f"@{fake.user_name()} said"
    yield "Unix time", lambda: str(draw.randrange(10**9, 2 * 10**9))
    yield "prose", lambda: fake.paragraph(5)


def _in_fours(make: Maker) -> str:
    text = make()
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--each", type=int, default=1000, help="texts of each kind and country")
    each = parser.parse_args().each
    draw = random.Random(1)
    Faker.seed(1)
    print(f"found of {each} planted; then as another kind, and not at all")
    for kind, where, make in planted():
        said = [make() for _ in range(each)]
        kinds = [{hit.kind for hit in found(draw.choice(AROUND).format(text))} for text in said]
        right = sum(kind in there for there in kinds)
        none = [text for text, there in zip(said, kinds, strict=True) if not there]
        line = f"{kind:<15} {where:<18} {100 * right / each:6.1f} % {100 * (each - right - len(none)) / each:6.1f} %"
        print(f"{line} {100 * len(none) / each:6.1f} %  {none[0] if none else ''}")
    print(f"\nof {each} texts that hold none, those in which something is found")
    for name, make in alike(draw):
        said = [draw.choice(AROUND).format(make()) for _ in range(each)]
        hits = [(hit, text) for text in said for hit in found(text)[:1]]
        first = hits[0][1][hits[0][0].start : hits[0][0].end] if hits else ""
        print(f"{name:<18} {100 * len(hits) / each:6.1f} %  {hits[0][0].kind + ' ' + first if hits else ''}")


if __name__ == "__main__":
    main()
