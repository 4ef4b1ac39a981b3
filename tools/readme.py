"""`python -m tools.readme`: writes the generated parts of the README, docs/lineage.md and the issue form."""

from __future__ import annotations

import ast
import re

import yaml

from tools.rendering import REPOSITORY, TARGETS, facts
from tools.sql.table import DOCUMENT, with_shapes

README = REPOSITORY / "README.md"
RENDERED_README = REPOSITORY / "template" / "README.md.jinja"
PACKAGE = REPOSITORY / "template" / "src" / "{{ package_name }}" / "floe"
TARGET_MODULE = "The compute target: everything that depends on the warehouse."  # its own first line names the target
ISSUE_FORM = REPOSITORY / ".github" / "ISSUE_TEMPLATE" / "bug.yml"


def with_tables(text: str) -> str:
    """Return the README's text with its generated tables replaced by present ones."""
    for name, table in (("targets", _targets()), ("questions", _questions())):
        text = _replaced(text, name, table)
    return text


def with_modules(text: str) -> str:
    """Return the text of the rendered README with its table of modules replaced by a present one."""
    return _replaced(text, "modules", _modules())


def _replaced(text: str, name: str, table: str) -> str:
    start, end = re.search(rf"<!-- {name}: [^\n]*-->\n", text), text.index(f"<!-- /{name} -->")
    if start is None:
        msg = f"a README has lost its marker <!-- {name}: … -->"
        raise ValueError(msg)
    return f"{text[: start.end()]}\n{table}\n{text[end:]}"


def _modules() -> str:
    """Return a row per module of `floe/`: its path and the first line of its docstring; folders after files."""
    files = [*PACKAGE.rglob("*.py"), next(REPOSITORY.glob("template/*duckdb*/src/*/floe/target.py"))]
    rows = ["| File | Contains |", "|---|---|"]
    paths = {file.parts[file.parts.index("floe") + 1 :]: file for file in files}
    for path in sorted(paths, key=lambda path: [(len(path) > depth + 1, part) for depth, part in enumerate(path)]):
        first = (ast.get_docstring(ast.parse(paths[path].read_text())) or "").partition("\n")[0]
        name = f"{'/'.join(path[:-1])}/" if path[-1] == "__init__.py" else "/".join(path)
        if name != "/":
            rows.append(f"| `{name}` | {TARGET_MODULE if name == 'target.py' else first} |")
    return "\n".join(rows) + "\n"


def with_targets(form: str) -> str:
    """Return the issue form's text with its options replaced by the present targets."""
    options = "".join(f"        - {facts(target)['title']}\n" for target in TARGETS)
    return re.sub(r"( +# targets: [^\n]*\n).*?( +# /targets\n)", rf"\1{options}\2", form, flags=re.DOTALL)


def _targets() -> str:
    rows = ["| Target | Adapter | Ways to sign in (the first is the default) |", "|---|---|---|"]
    for target in TARGETS:
        told = facts(target)
        adapter = re.split(r"[<>=~\[ ]", told["requirement"])[0]
        ways = ", ".join(method["title"] for method in told["auth_methods"])
        rows.append(f"| [{told['title']}]({told['docs']['vendor']}) | [{adapter}]({told['docs']['dbt']}) | {ways} |")
    return "\n".join(rows) + "\n"


def _questions() -> str:
    questions = yaml.safe_load((REPOSITORY / "copier.yml").read_text())
    rows = ["| Question | What it decides |", "|---|---|"]
    for name, question in questions.items():
        if not name.startswith("_") and question.get("when") is not False:
            text = " ".join(question["help"].split())
            rows.append(f"| `{name}` | {text.replace('{{ facts.title }}', 'the target')} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
    RENDERED_README.write_text(with_modules(RENDERED_README.read_text()))
    ISSUE_FORM.write_text(with_targets(ISSUE_FORM.read_text()))
    DOCUMENT.write_text(with_shapes(DOCUMENT.read_text()))
