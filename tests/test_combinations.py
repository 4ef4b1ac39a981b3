"""Combinations of the structural answers, rendered twice: what holds for each tree."""

from __future__ import annotations

import gc
import posixpath
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import jinja2
import pytest
import yaml
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import default_settings
from jinja2 import UndefinedError, nodes

from tests.combinations import SPREAD, Combination, Rendered, Tree, combinations, free_text, questions
from tests.parsing import anchors, fault, leftover, links, parse, scalars
from tools.rendering import REPOSITORY, render, snapshot

pytestmark = pytest.mark.xdist_group("combinations")
ANSWERS = ".copier-answers.yml"


def faults(rendered: Rendered, check: Callable[[str, str, Combination], object]) -> list[str]:
    """Return one line for each distinct path and content that `check` has something to say of."""
    return [
        f"{path} ({combination}): {said}"
        for (path, content), combination in rendered.contents().items()
        if (said := check(path, rendered.read(content).decode(), combination))
    ]


class TestAll:
    """What holds for the combinations as a whole."""

    def test_count(self, rendered: Rendered, record_property: Callable[[str, object], None]) -> None:
        """What copier asked and stored in each tree is what was worked out from copier.yml: no more, no less."""
        stored = [yaml.safe_load(rendered.read(tree[ANSWERS])) for tree in rendered.trees]
        asked = [dict(combination.asked) for combination in rendered.combinations]

        assert asked == [{name: answers[name] for name in answers if name in questions()} for answers in stored]
        assert set(questions()["start_from"]["choices"].values()) == {answers["start_from"] for answers in asked}
        several = {name: len({answers[name] for answers in asked if name in answers}) for name in questions()}
        record_property(
            "summary",
            f"{len(asked)} combinations rendered twice, {2 * len(asked) / rendered.seconds:.1f} renders per second"
            f" ({', '.join(f'{name} {count}' for name, count in several.items() if count > 1)})",
        )

    def test_deciding_text(self) -> None:
        """Free text on which a file or a question branches has two values at least among the combinations."""
        parse = jinja2.Environment().parse
        folders = REPOSITORY / "template", REPOSITORY / "extensions"
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        texts = [path.read_text() for path in files if path.suffix == ".jinja"]
        texts += [path.relative_to(REPOSITORY).as_posix() for path in files]
        texts += [str(value) for question in questions().values() for value in question.values()]
        parsed = [parse(text) for text in texts]
        tests: list[nodes.Node] = [branch.test for text in parsed for branch in text.find_all(nodes.If)]
        tests += [branch.test for text in parsed for branch in text.find_all(nodes.CondExpr)]
        tests += [parse(str(question.get("when"))) for question in questions().values()]
        deciding = {
            name.name for test in tests for name in (test, *test.find_all(nodes.Name)) if isinstance(name, nodes.Name)
        }

        assert [] == [name for name in free_text() if name in deciding and "placeholder" not in questions()[name]]

    @pytest.mark.parametrize("name", SPREAD)
    def test_pairs(self, template: Path, name: str) -> None:
        """An answer that is not crossed with all others meets each of them in at least one combination."""
        found = combinations(template)
        pairs = {(each.asked[name], answer) for each in found for answer in each.asked.items() if answer[0] != name}
        values = {value for value, _ in pairs}

        assert values == set(questions()[name]["choices"].values())
        assert pairs == {(value, answer) for value in values for _, answer in pairs}

    def test_twice(self, rendered: Rendered) -> None:
        """The same answers give the same bytes, in another process and in another folder."""
        pairs = zip(rendered.combinations, rendered.trees, rendered.again, strict=True)

        assert [] == [
            f"{combination}: {sorted(path for path, _ in once.items() ^ again.items())}"
            for combination, once, again in pairs
            if once != again
        ]

    def test_differ(self, rendered: Rendered) -> None:
        """Each answer changes something besides prose and the file that stores it."""
        found: dict[frozenset[tuple[str, str]], Combination] = {}
        same = []
        for combination, tree in zip(rendered.combinations, rendered.trees, strict=True):
            read = frozenset(
                file for file in tree.items() if file[0] != ANSWERS and not file[0].endswith((".md", ".example"))
            )
            other = found.setdefault(read, combination)
            if other is not combination:
                same.append(f"{combination} = {other}")

        assert [] == same

    def test_targets_differ(self, rendered: Rendered) -> None:
        """Each target has a target.py and a profile of its own."""
        for name in ("target.py", "profiles.yml"):
            found: dict[str, set[str]] = {}
            for combination, tree in zip(rendered.combinations, rendered.trees, strict=True):
                [content] = [tree[path] for path in tree if PurePosixPath(path).name == name]
                found.setdefault(content, set()).add(combination.context["compute_target"])

            assert {1} == {len(targets) for targets in found.values()}, name

    def test_files(self, rendered: Rendered) -> None:
        """There are exactly the files whose path under template/ renders, with these answers, to no empty part."""
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
        root = rendered.template / "template"
        sources = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
        excluded = yaml.safe_load((REPOSITORY / "copier.yml").read_text())["_exclude"]
        excluding = environment.from_string("\n".join(excluded))
        parts = {part: environment.from_string(part) for source in sources for part in source.parts}
        wrong = []
        for combination, tree in zip(rendered.combinations, rendered.trees, strict=True):
            names = {part: template.render(combination.context) for part, template in parts.items()}
            expected = {
                PurePosixPath(*(names[part] for part in source.parts)).as_posix().removesuffix(".jinja")
                for source in sources
                if all(names[part] for part in source.parts)
            }
            expected -= set(excluding.render(combination.context, _copier_operation="copy").split("\n"))
            if expected != tree.keys():
                wrong.append(f"{combination}: {sorted(expected ^ tree.keys())}")

        assert [] == wrong


class TestFiles:
    """What holds for each file of each combination."""

    def test_parse(self, rendered: Rendered, record_property: Callable[[str, object], None]) -> None:
        """Each parses by its kind, and ends with one newline."""
        assert [] == faults(rendered, lambda path, text, _: fault(path, text))
        record_property(
            "summary",
            f"{sum(map(len, rendered.trees))} files, {len(rendered.contents())} distinct, each parsed by its kind",
        )

    def test_no_leftovers(self, rendered: Rendered) -> None:
        """No Jinja of the template's is left, in a path or in a file."""
        assert [] == faults(rendered, lambda path, text, combination: leftover(path, text, combination.context))

    def test_no_undefined(self, rendered: Rendered) -> None:
        """Nothing that Jinja did not know, and no Python None, was written as text."""

        def check(path: str, text: str, _: Combination) -> list[str]:
            is_data = PurePosixPath(path).suffix in {".yaml", ".yml", ".toml", ".json", ".example"}
            words = {str(value) for value in scalars(parse(path, text.encode())) if value is not None}
            return [word for word in words if word == "None" or "Undefined" in word] if is_data else []

        assert [] == faults(rendered, check)

    def test_no_secret(self, rendered: Rendered, tmp_path: Path) -> None:
        """No secret that detect-secrets knows stands in a file."""
        # Under its own name: what counts as a secret depends on the kind of file.
        for path, content in rendered.contents():
            file = tmp_path / content / PurePosixPath(path).name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(rendered.read(content))
        secrets = SecretsCollection()
        with default_settings():
            secrets.scan_files(*(str(file) for file in tmp_path.rglob("*") if file.is_file()), num_processors=1)

        assert [] == [f"{Path(name).name}:{secret.line_number}: {secret.type}" for name, secret in secrets]

    def test_no_account(self, rendered: Rendered) -> None:
        """The profile takes what tells one account from another, and each secret, from the environment only."""
        told = {"account", "user", "host", "database", "dbname", "project", "catalog", "path", "http_path"}

        def check(path: str, text: str, _: Combination) -> list[str]:
            if PurePosixPath(path).name != "profiles.yml":
                return []
            outputs = next(iter(yaml.safe_load(text).values()))["outputs"]
            assert {"dev", "prod", "local"} == outputs.keys()
            return [
                f"{name}.{key}"
                for name, output in outputs.items()
                for key, value in output.items()
                if key in told or re.search("pass|token|secret|private_key|keyfile", key)
                # Spark's session has no host, though its adapter asks for one.
                if "env_var(" not in str(value) and value != "localhost"
            ]

        assert [] == faults(rendered, check)

    def test_no_absolute_path(self, rendered: Rendered) -> None:
        """No path of a machine is in a file, except for the template's own in copier's, and those of the image."""
        here = [REPOSITORY, rendered.template, rendered.store.parent, Path.home(), Path.cwd()]
        of_any = r"(?<![\w.:/~}])/(?:home|Users|root|tmp|private|var|usr|opt|etc|mnt|srv)/|\b[A-Z]:\\"
        machine = "|".join(re.escape(f"{path}/") for path in here)
        in_container = re.compile(r"Dockerfile|compose\.yaml|deploy/|docs/deploy\.md|\.github/workflows/image\.yml")

        def check(path: str, text: str, _: Combination) -> str:
            pattern = re.compile(machine if in_container.match(path) else f"{machine}|{of_any}")
            found = pattern.search(text.replace(f"_src_path: {rendered.template}\n", "") if path == ANSWERS else text)
            return text[found.start() :].split("\n")[0] if found else ""

        assert [] == faults(rendered, check)

    def test_links(self, rendered: Rendered) -> None:
        """Each relative link of a Markdown file leads to a file of its tree, and its anchor to a heading there."""
        texts = {
            content: rendered.read(content).decode() for path, content in rendered.contents() if path.endswith(".md")
        }
        targets = {content: [link for link in links(text) if "://" not in link] for content, text in texts.items()}
        headings = {content: anchors(text) for content, text in texts.items()}

        def is_broken(tree: Tree, path: str, link: str) -> bool:
            name, _, anchor = link.partition("#")
            target = posixpath.normpath(PurePosixPath(path).parent / name) if name else path
            return target not in tree or bool(anchor and anchor not in headings[tree[target]])

        assert any(targets.values())
        assert [] == [
            f"{path} ({combination}): {link}"
            for combination, tree in zip(rendered.combinations, rendered.trees, strict=True)
            for path, content in tree.items()
            for link in targets.get(content, [])
            if is_broken(tree, path, link)
        ]

    def test_adapters(self, rendered: Rendered) -> None:
        """A project depends on its own target's adapter alone, and on DuckDB for development."""
        for combination, tree in zip(rendered.combinations, rendered.trees, strict=True):
            told = parse("pyproject.toml", rendered.read(tree["pyproject.toml"]))
            auth, facts, of_all = (combination.context[name] for name in ("auth", "facts", "facts_of"))
            wanted = {auth.get("requirement", facts["requirement"])}
            development = {of_all["duckdb"]["requirement"]} - wanted
            adapters = {name for name in told["project"]["dependencies"] if re.match(r"dbt-(?!core)", name)}
            besides = {name for name in told["dependency-groups"]["dev"] if name.startswith("dbt-")}

            assert (wanted, development) == (adapters, besides), combination


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a folder that copier leaves open
def test_undefined(tmp_path: Path) -> None:
    """A name that nothing defines stops the rendering: it never shows as nothing."""
    template = snapshot(tmp_path / "template")
    (template / "template" / "note.txt.jinja").write_text("account: {{ acount }}\n")

    with pytest.raises(UndefinedError, match="acount"):
        render(template, tmp_path / "project")
    gc.collect()
