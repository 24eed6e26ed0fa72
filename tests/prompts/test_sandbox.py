"""A prompt template says what a prompt is; it runs nothing and changes nothing."""

from pathlib import Path
from typing import Any

import pytest

from icl_harness.errors import TemplateError
from icl_harness.prompts.template import Template

ESCAPES = [
    "{{ cycler.__init__.__globals__.os.popen('touch owned').read() }}",
    "{{ joiner.__init__.__globals__.os.system('touch owned') }}",
    "{{ namespace.__init__.__globals__['os'].system('touch owned') }}",
    "{{ lipsum.__globals__['os'].system('touch owned') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ self.__init__.__globals__.__builtins__.open('owned', 'w') }}",
    "{{ input.format.__globals__ }}",
    "{{ (input | attr('__class__')).__mro__ }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(cycler) }}",
    "{{ '{x.__class__.__mro__}'.format_map({'x': cycler}) }}",
    "{% set f = cycler.__init__ %}{{ f.__globals__.os.system('touch owned') }}",
    "{{ labels.append('x') }}",
    "{{ labels.clear() }}",
    "{{ fields.update({'a': 'b'}) }}",
    "{{ range(1000000000) | list }}",
]


@pytest.mark.parametrize("attack", ESCAPES)
@pytest.mark.parametrize("block", ["preamble", "shot", "format", "query"])
def test_a_template_that_runs_or_changes_something_is_refused_in_one_line(
    attack: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = dict.fromkeys(("preamble", "shot", "format", "query"), "")
    blocks[block] = attack
    source = "".join(f"{{% block {name} %}}{text}{{% endblock %}}" for name, text in blocks.items())
    given: dict[str, Any] = {"input": "in", "labels": ["a", "b"], "fields": {"a": "x"}}
    with pytest.raises(TemplateError, match=f"template t.jinja, block {block}: ") as caught:
        Template(source, "t.jinja").render(block, **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()
    assert given == {"input": "in", "labels": ["a", "b"], "fields": {"a": "x"}}


def test_what_templates_need_is_allowed() -> None:
    source = (
        "{% block preamble %}{{ labels | join(', ') }} {{ '%02d' | format(7) }}{% endblock %}"
        "{% block shot %}{% for l in labels %}{{ loop.index }}{{ l.upper() }}{% endfor %}"
        "{% endblock %}{% block format %}{% set ns = namespace(n=0) %}{% set ns.n = 3 %}{{ ns.n }}"
        "{% endblock %}{% block query %}{{ input.split()[0] }}{{ '{:>3}'.format(1) }}{% endblock %}"
    )
    template = Template(source, "t.jinja")
    shown = [template.render(b, input="a b", labels=["x", "y"]) for b in
             ("preamble", "shot", "format", "query")]  # fmt: skip
    assert shown == ["x, y 07", "1X2Y", "3", "a  1"]
