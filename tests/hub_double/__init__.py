"""A Hub on loopback: a real HTTP server that answers huggingface_hub's client, and fails when it is told to.

`HF_ENDPOINT`, `HF_HUB_DISABLE_XET` and the cache folders are read when huggingface_hub is imported, so what is tested
runs in a subprocess:

    @pytest.fixture
    def hub() -> Iterator[HubDouble]:
        with HubDouble() as hub:
            yield hub

    def test_a_push_is_retried(hub: HubDouble, tmp_path: Path) -> None:
        hub.fail("PUT", "/uploads/", status=500)
        subprocess.run([sys.executable, "-m", "boomerang_cli", "push", ...], env=hub.environment(tmp_path / "home"))
        assert set(hub.files("tester/model")) == {...}

In the test's own process only calls with `endpoint=hub.endpoint, token=hub.token` reach it (`HfApi(...)`,
`hf_hub_download(...)`), and uploads need `huggingface_hub.constants.HF_HUB_DISABLE_XET` patched to True.

The API and the storage of LFS objects are two servers on two ports, by two names of this machine: two origins, two
hosts. An LFS file is redirected from `{endpoint}/{repo}/resolve/{revision}/{file}` to
`{storage}/{repo}/objects/{sha256}?filename={file}&signature=...` and
uploaded to `{storage}/{repo}/uploads/{sha256}` or, above `multipart_bytes`, `{storage}/{repo}/parts/{sha256}/{number}`.
Like S3, the storage refuses a token beside its signature. Plain LFS only, no Xet; models only. What is known of the
real Hub from memory alone is marked [mem].
"""

from __future__ import annotations

from hub_double import access, card, changes, collection_routes, downloads, listings, uploads  # noqa: F401  (routes)
from hub_double.blobs import Blob, blob_of
from hub_double.hub import HubDouble

__all__ = ["Blob", "HubDouble", "blob_of"]
