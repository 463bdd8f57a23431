"""A real JupyterLab in a real Chromium, and pages opened with the network off."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/apputils-extension:themes": {"theme": "JupyterLab Light", "adaptive-theme": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none", "kernelShutdown": True},
}
"""No news and no update check; every cell stays in the page, on screen or not."""

SCREENSHOTS = Path(__file__).parent / "browser" / "screenshots"
PRESS = """async (root, oncePerName) => {
    const pressed = [];
    for (const it of root.querySelectorAll('.modebar-btn, .js-plotly-plot a, a.output')) {
        const name = it.getAttribute('data-title') || it.textContent;
        if (oncePerName && pressed.includes(name)) continue;
        pressed.push(name);
        it.dispatchEvent(new MouseEvent('click', { bubbles: true, cancelable: true, view: window }));
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
    for (const it of document.querySelectorAll('[class*="plotly-cloud"] button'))  // one that asks first
        it.dispatchEvent(new MouseEvent('click', { bubbles: true, cancelable: true, view: window }));
    return pressed;
}"""
"""Presses what figures have to press, everything or one control of each name, and returns the names."""

KERNEL = """() => { const widget = window.jupyterapp.shell.currentWidget;
    const session = widget && widget.sessionContext && widget.sessionContext.session;
    return session && session.kernel ? session.kernel.status : null }"""

READY = """() => window.jupyterapp && ["apputils:change-theme", "docmanager:open", "notebook:run-all-cells"].every(
    (name) => window.jupyterapp.commands.hasCommand(name)) && !document.querySelector("#jupyterlab-splash")
    && document.body.dataset.jpThemeLight === "true" """
"""Waits for the theme too: a change of theme during the splash of the first one makes JupyterLab remove it twice."""

OPEN = """async (path) => {
    await window.jupyterapp.restored;
    if (document.body.dataset.jpThemeLight === "false")
        await window.jupyterapp.commands.execute("apputils:change-theme", { theme: "JupyterLab Light" });
    await window.jupyterapp.commands.execute("docmanager:open", { path, factory: "Notebook" });
}"""
CLOSE = """async () => {
    const panel = window.jupyterapp.shell.currentWidget;
    await panel.sessionContext.shutdown();
    panel.context.model.dirty = false;
    panel.dispose();
}"""
"""Ends the kernel and closes the notebook; nothing is saved."""


@dataclass
class Opened:
    """A page and its faults: requests to the outside, new windows, errors of console and scripts, dialogs."""

    page: object
    outside: list[str] = field(default_factory=list)
    windows: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def forget(self) -> None:
        """Nothing has gone wrong so far."""
        for noted in (self.outside, self.windows, self.errors, self.dialogs):
            noted.clear()

    def leads_nowhere(self, root: object, once_per_name: bool = False) -> list[str]:
        """Press the controls of the figures in `root`, a locator, and return their names: none leads outside."""
        here = self.page.url
        pressed = root.evaluate(PRESS, once_per_name)
        self.page.wait_for_timeout(200)
        assert not self.outside and not self.windows and not self.dialogs and self.page.url == here
        assert not re.search("share|cloud|produced with", " ".join(pressed).lower()), pressed
        return pressed

    def shot(self, name: str, **options: object) -> Path:
        """A picture of it in tests/browser/screenshots."""
        SCREENSHOTS.mkdir(exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=str(path), **options)
        return path


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """The browser; tests are skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)  # the machine may have other work
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def visited(
    browser: object, allowed: tuple[str, ...], width: int = 1300, height: int = 1100, **options: object
) -> Iterator[Opened]:
    """A fresh page that may ask only addresses beginning with one of `allowed`; all else is refused and noted."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    opened = Opened(context.new_page())

    def opens(page: object) -> None:
        if page is not opened.page:
            opened.windows.append(page.url)

    def decide(route: object) -> None:
        if route.request.url.startswith((*allowed, "data:", "blob:")):
            route.continue_()
        else:
            opened.outside.append(route.request.url)
            route.abort()

    def dismissed(dialog: object) -> None:
        opened.dialogs.append(dialog.message)
        dialog.dismiss()

    context.on("page", opens)
    context.route("**/*", decide)
    opened.page.on("pageerror", lambda error: opened.errors.append(f"{error}\n{error.stack}"))
    opened.page.on("console", lambda message: opened.errors.append(message.text) if message.type == "error" else None)
    opened.page.on("dialog", dismissed)
    try:
        yield opened
    finally:
        context.close()


@pytest.fixture
def offline(chromium: object) -> Iterator[object]:
    """`offline(path, width=...)` opens a local file with the network off and gives an `Opened`."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def open_file(path: Path, width: int = 1000, **options: object) -> Opened:
            opened = stack.enter_context(visited(chromium, ("file:",), width, **options))
            opened.page.goto(Path(path).resolve().as_uri(), wait_until="load")
            return opened

        yield open_file


class Lab:
    """A JupyterLab server on loopback whose notebooks lie in `folder`, open in one page of the browser."""

    def __init__(self, opened: Opened, folder: Path) -> None:
        self._opened, self.folder = opened, folder

    @contextmanager
    def notebook(self, path: Path, width: int = 1300, height: int = 1100) -> Iterator[LabNotebook]:
        """A copy of the notebook at `path`, open and with a kernel of its own, idle."""
        shutil.copy(path, self.folder / path.name)
        page = self._opened.page
        self._opened.forget()
        page.set_viewport_size({"width": width, "height": height})
        page.evaluate(OPEN, path.name)
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
        page.wait_for_function(f"({KERNEL})() === 'idle'", timeout=90_000)
        try:
            yield LabNotebook(self._opened)
        finally:
            page.evaluate(CLOSE)


class LabNotebook:
    """An open notebook; `page` is Playwright's, `panel` its notebook panel."""

    def __init__(self, opened: Opened) -> None:
        self.opened, self.page = opened, opened.page
        self.panel = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def run_all(self, timeout: float = 300) -> None:
        """Run every cell; fails with the text of the first cell that errs."""
        self.page.set_default_timeout(timeout * 1000)
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.idle(timeout)
        self.page.set_default_timeout(30_000)
        failed = self.panel.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']")
        assert failed.count() == 0, failed.first.inner_text()

    def idle(self, timeout: float = 60) -> None:
        """Wait until the kernel is idle."""
        # not polled with every frame, which would be drawn for it
        self.page.wait_for_function(f"({KERNEL})() === 'idle'", timeout=timeout * 1000, polling=50)

    def shot(self, name: str, **options: object) -> Path:
        return self.opened.shot(name, **options)

    def no_mishaps(self) -> None:
        """No figure and no request leads outside, no script has an error, no dialog opened."""
        self.opened.leads_nowhere(self.panel, once_per_name=True)
        # the server's own answers to a client that asks for what is not there yet are no errors of ours
        errors = [text for text in self.opened.errors if not re.search(r"status of 4\d\d|favicon|ResizeObserver", text)]
        assert not errors, errors


@pytest.fixture(scope="session")
def lab(chromium: object, warm_kernels: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One JupyterLab for all browser tests, its settings its own and nothing of the user's touched.

    Its kernel "ordinary" starts as a user's does.
    """
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    folder.mkdir()
    for name, start in {"python3": warm_kernels, "ordinary": [sys.executable, "-m", "ipykernel_launcher"]}.items():
        spec = {"argv": [*start, "-f", "{connection_file}"], "display_name": name, "language": "python"}
        (home / "data" / "kernels" / name).mkdir(parents=True)
        (home / "data" / "kernels" / name / "kernel.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}"]
    with running_lab(chromium, home, folder, command) as started:
        yield started


@contextmanager
def running_lab(
    chromium: object, home: Path, folder: Path, command: list[str], cwd: Path | None = None, **env: str
) -> Iterator[Lab]:
    """A JupyterLab that `command` starts, open in the browser. home: of its settings; folder: of its notebooks."""
    (home / "config" / "labconfig").mkdir(parents=True)
    (home / "config" / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(SETTINGS))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, address = secrets.token_hex(16), f"http://127.0.0.1:{port}"
    places = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "run",
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }  # fmt: skip
    env = os.environ | env | {name: str(home / place) for name, place in places.items()}
    words = [
        "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
        "--expose-app-in-browser", "--LabApp.extension_manager=readonly", "--ServerApp.terminals_enabled=False",
    ]  # fmt: skip
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen([*command, *words], cwd=cwd, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(server, address, token, home / "server.log")
        with visited(chromium, (address, address.replace("http", "ws"))) as opened:
            opened.page.goto(f"{address}/lab?reset&token={token}", timeout=90_000)
            opened.page.wait_for_function(READY, timeout=90_000)
            yield Lab(opened, folder)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def _wait_for(server: subprocess.Popen, address: str, token: str, log: Path) -> None:
    request = urllib.request.Request(f"{address}/api/status", headers={"Authorization": f"token {token}"})
    end = time.monotonic() + 180
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            urllib.request.urlopen(request, timeout=2).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not answer: {log.read_text()[-2000:]}")
