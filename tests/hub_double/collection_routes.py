"""Collections: made, shown, added to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hub_double.blobs import git_sha1
from hub_double.messages import Answer, Refusal, Request
from hub_double.repos import now
from hub_double.routes import route

if TYPE_CHECKING:
    from hub_double.hub import HubDouble


@route("api", "POST", "/api/collections")
def create_collection(hub: HubDouble, request: Request) -> Answer:
    asked = request.json()
    owner, title = asked["namespace"], asked["title"]
    hub.check_may_write(request, owner)
    if len(asked.get("description", "")) > 150:
        raise Refusal(400, "The description must be at most 150 characters")
    slug = f"{owner}/{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}-{git_sha1(title.encode())[:24]}"
    if slug in hub.collections:
        raise Refusal(409, "This collection already exists", slug=slug)
    made = {"slug": slug, "title": title, "description": asked.get("description"), "private": asked["private"]}
    made |= {"owner": owner, "items": [], "lastUpdated": now(), "position": 0, "theme": "green", "upvotes": 0}
    hub.collections[slug] = made
    return Answer(200, made)


@route("api", "GET", "/api/collections/(?P<slug>[^/]+/[^/]+)")
def get_collection(hub: HubDouble, request: Request, slug: str) -> Answer:
    role, collection = hub.role(request), hub.collections.get(slug)
    if collection is None or (collection["private"] and role is None):
        raise Refusal(404, "Collection not found")
    return Answer(200, collection)


@route("api", "POST", "/api/collections/(?P<slug>[^/]+/[^/]+)/items")
def add_collection_item(hub: HubDouble, request: Request, slug: str) -> Answer:
    collection, asked = get_collection(hub, request, slug).body, request.json()
    hub.check_may_write(request, slug)
    if asked["item"]["type"] == "model":
        hub.readable(request, asked["item"]["id"])
    if any(item.items() >= asked["item"].items() for item in collection["items"]):
        raise Refusal(409, "This item is already in the collection")
    item = {"_id": git_sha1(asked["item"]["id"].encode())[:24], "position": len(collection["items"]), **asked["item"]}
    collection["items"].append(item | ({"note": {"text": asked["note"]}} if "note" in asked else {}))
    return Answer(200, collection)
