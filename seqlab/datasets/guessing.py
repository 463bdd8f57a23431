"""Which column holds users, items, times or titles, where nobody says."""

from __future__ import annotations

import re

GUESSES = {  # compared without case and punctuation, the likeliest first
    "user": "user userid uid customer customerid householdid visitor visitorid reviewer reviewerid member "
    "memberid account accountid client clientid username sessionid",
    "item": "item itemid iid product productid sku asin parentasin movie movieid article articleid track "
    "trackid song songid book bookid isbn contentid businessid stockcode",
    "time": "timestamp time datetime date when ts unixtime unixtimestamp unixreviewtime eventtime eventdate createdat "
    "ratedat tdat transactiontimestamp invoicedate purchasedate orderdate timestampms timems",
    "title": "title name itemtitle itemname producttitle productname movietitle description text",
}


def guess(columns, role: str):
    """The first of the names of columns that says it holds users, items, times or titles (`GUESSES`), or None."""
    plain: dict = {}
    for column in columns:
        typeless = re.sub(r":(token|float)(_seq)?$", "", str(column))  # as RecBole writes its columns
        plain.setdefault(re.sub(r"[^a-z0-9]", "", typeless.lower()), column)
    return next((plain[word] for word in GUESSES[role].split() if word in plain), None)
