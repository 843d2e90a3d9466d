"""Small changes of a module's source: each is a mutant."""

from __future__ import annotations

import ast
import bisect
import hashlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
}

ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "+"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}

OPPOSITE = {
    "min": "max", "any": "all", "minimum": "maximum", "argmin": "argmax", "idxmin": "idxmax", "floor": "ceil",
    "add_": "sub_", "first": "last", "startswith": "endswith", "union": "intersection",
}  # fmt: skip
OPPOSITE |= {value: key for key, value in OPPOSITE.items()}
"""Functions and methods that are exchanged."""

LEFT_OUT = {
    "abs", "copy", "zero_", "clip", "clamp", "dropna", "round", "astype", "sqrt", "sqrt_", "resolve", "fillna",
    "where", "mask", "rstrip", "strip", "lstrip", "reshape", "mean", "lower", "casefold", "drop_duplicates",
    "sort_values", "detach", "clone", "contiguous", "float", "double", "ravel", "mul_", "add_", "transpose",
}  # fmt: skip
"""Methods whose call is left out: ``x.abs()`` becomes ``x``."""

WORDS = {
    "train": "test", "lmc": "cka_softmax", "train_error": "test_error", "train_nll": "test_nll", "II-A": "II-B",
    "I": "II-A", "lower": "higher", "left": "inner", "stable": "quicksort", "uniform": "global", "cpu": "cuda",
    "sum": "mean", "dense": "prune", "order": "augmentation", "first": "second", "cka_softmax": "cka_logits",
}  # fmt: skip
WORDS |= {value: key for key, value in WORDS.items() if value not in WORDS}
"""Strings that stand for each other's opposite."""

ATTRIBUTES = {
    "train": "eval", "error": "nll", "lmc": "cka", "dense_error": "test_error", "min": "max", "sum": "mean",
    "weight_decay": "momentum", "learning_rate": "gamma", "epochs": "iterations", "train_images": "test_images",
    "warmup": "iterations", "epoch": "step",
}  # fmt: skip
ATTRIBUTES |= {value: key for key, value in ATTRIBUTES.items() if value not in ATTRIBUTES}
"""Attributes that are taken for each other."""

LIKELIHOOD = {
    "constant": 0.6,
    "swapped": 0.4,
    "branch": 0.9,
    "chain": 0.7,
    "element": 0.35,
    "dropped": 1.3,
    "compare": 1.2,
}
"""How readily an operator is drawn (1 where it is not named): constants must not drown the rest."""

NO_BEHAVIOUR = {"description", "strict"}
"""Arguments by name that are words, or guard against a mistake in the library itself (``zip(…, strict=True)``)."""

MODULE = (1, 10**6)

Span = tuple[int, int]


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    Parameters
    ----------
    module
        Path below the library.
    operator, about
        Kind of change; the change in words.
    before, after
        The changed lines, as they were and as they are.
    spans
        First and last lines of what the change touches: narrowest first, the whole module last.
    text
        Source of the whole module with the change.
    """

    module: str
    line: int
    operator: str
    about: str
    before: str
    after: str
    spans: tuple[Span, ...]
    text: str

    @cached_property
    def key(self) -> str:
        """Digest of the module and the changed source."""
        return hashlib.sha256(f"{self.module}\n{self.text}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Edit:
    """Bytes `start` to `end` of a source become `new`."""

    operator: str
    start: int
    end: int
    new: str
    about: str


class Source:
    """A module's text and tree; offsets are in bytes, as those of `ast`."""

    def __init__(self, text: str) -> None:
        self.content = text.encode()
        self.tree = ast.parse(text)
        self.starts = [0]
        for line in self.content.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def line(self, offset: int) -> int:
        """Number of the line, from 1, at an offset."""
        return bisect.bisect_right(self.starts, offset)

    def span(self, node: ast.AST) -> Span:
        """Where a node begins and ends."""
        return (
            self.starts[node.lineno - 1] + node.col_offset,  # type: ignore[attr-defined]
            self.starts[node.end_lineno - 1] + node.end_col_offset,  # type: ignore[attr-defined]
        )

    def between(self, left: ast.AST, right: ast.AST) -> tuple[int, int, str]:
        """Where an operator stands between two nodes, and the text there."""
        start, end = self.span(left)[1], self.span(right)[0]
        return start, end, self.content[start:end].decode()

    def code(self, node: ast.AST) -> str:
        """The text of a node."""
        start, end = self.span(node)
        return self.content[start:end].decode()

    def replaced(self, operator: str, node: ast.AST, new: str, about: str = "") -> Edit:
        """A node's text becomes another."""
        old = " ".join(self.code(node).split())
        return Edit(operator, *self.span(node), new, about or f"{old[:60]} → {new}")

    def exchanged(
        self, operator: str, left: ast.AST, right: ast.AST, old: str, new: str, whole: ast.AST
    ) -> Iterator[Edit]:
        """The operator between two nodes becomes another."""
        start, end, text = self.between(left, right)
        if old in text:
            yield Edit(operator, start, end, text.replace(old, new, 1), f"{old} → {new} in {self.code(whole)[:60]}")


def compared(source: Source, node: ast.Compare) -> Iterator[Edit]:
    """A comparison is moved by one, or reversed."""
    for left, kind, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
        symbol, others = COMPARISONS[type(kind)]
        for other in others:
            yield from source.exchanged("compare", left, right, symbol, other, node)


def reckoned(source: Source, node: ast.BinOp) -> Iterator[Edit]:
    """Another arithmetic, or the first operand alone; not for text."""
    text = isinstance(node.left, ast.JoinedStr) or (
        isinstance(node.left, ast.Constant) and isinstance(node.left.value, str)
    )
    if not text and type(node.op) in ARITHMETIC:
        yield from source.exchanged("arithmetic", node.left, node.right, *ARITHMETIC[type(node.op)], node)
        yield source.replaced("operand", node, source.code(node.left))


def added(source: Source, node: ast.AugAssign) -> Iterator[Edit]:
    """``+=`` becomes ``-=``."""
    if type(node.op) in ARITHMETIC:
        old, new = ARITHMETIC[type(node.op)]
        yield from source.exchanged("arithmetic", node.target, node.value, f"{old}=", f"{new}=", node)


def joined(source: Source, node: ast.BoolOp) -> Iterator[Edit]:
    """``and`` becomes ``or``."""
    old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    for left, right in zip(node.values, node.values[1:], strict=False):
        yield from source.exchanged("bool", left, right, old, new, node)


def signed(source: Source, node: ast.UnaryOp) -> Iterator[Edit]:
    """A sign or negation is left out."""
    if not isinstance(node.operand, ast.Constant) and not isinstance(node.op, ast.UAdd):
        yield source.replaced("not", node, f"({source.code(node.operand)})")


def constant(source: Source, node: ast.Constant) -> Iterator[Edit]:
    """A number is another, a word its opposite."""
    value = node.value
    if isinstance(value, bool):
        yield source.replaced("constant", node, str(not value))
    elif isinstance(value, int):
        yield source.replaced("constant", node, str(value + 1))
        yield source.replaced("constant", node, str(value - 1) if value else "(-1)")
    elif isinstance(value, float):
        yield source.replaced("constant", node, repr(value * 2 if value else 1.0))
    elif isinstance(value, str) and value in WORDS and source.code(node)[0] in "'\"":
        yield source.replaced("word", node, f'"{WORDS[value]}"')


def attribute(source: Source, node: ast.Attribute) -> Iterator[Edit]:
    """Another attribute of the same object."""
    if node.attr in ATTRIBUTES:
        end, other = source.span(node)[1], ATTRIBUTES[node.attr]
        yield Edit("word", end - len(node.attr), end, other, f".{node.attr} → .{other} in {source.code(node)[:60]}")


def called(source: Source, node: ast.Call) -> Iterator[Edit]:
    """The opposite function, a method left out, the first two arguments exchanged, or an argument by name left out."""
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name in OPPOSITE:
        end = source.span(function)[1]
        yield Edit(
            "opposite", end - len(name), end, OPPOSITE[name], f"{name} → {OPPOSITE[name]} in {source.code(node)[:60]}"
        )
    if (
        isinstance(function, ast.Attribute)
        and name in LEFT_OUT
        and source.code(function.value) not in ("np", "torch", "math")
    ):
        yield source.replaced(
            "chain", node, source.code(function.value), f"without .{name}() in {source.code(node)[:60]}"
        )
    if len(node.args) >= 2 and not any(isinstance(one, ast.Starred) for one in node.args[:2]) and name[:1].islower():
        first, second = node.args[:2]
        if name not in ("min", "max", "isinstance", "zip", "getattr") and source.code(first) != source.code(second):
            start, end, between = source.span(first)[0], source.span(second)[1], source.between(first, second)[2]
            new = source.code(second) + between + source.code(first)
            yield Edit("swapped", start, end, new, f"arguments exchanged in {source.code(node)[:60]}")
    yield from without(
        source, [(*source.span(one), "argument") for one in node.keywords if one.arg and one.arg not in NO_BEHAVIOUR]
    )


def collected(source: Source, node: ast.Tuple | ast.List) -> Iterator[Edit]:
    """An element is left out."""
    if len(node.elts) >= 2 and isinstance(node.ctx, ast.Load):
        yield from without(source, [(*source.span(one), "element") for one in node.elts])


def mapped(source: Source, node: ast.Dict) -> Iterator[Edit]:
    """An entry is left out."""
    if len(node.keys) >= 2:
        places = [(source.span(key)[0], source.span(value)[1], "entry")
                  for key, value in zip(node.keys, node.values, strict=True) if key is not None]  # fmt: skip
        yield from without(source, places)


def without(source: Source, places: list[tuple[int, int, str]]) -> Iterator[Edit]:
    """One of several parts, with the comma behind it, is left out."""
    for start, end, kind in places:
        comma = source.content[end : end + 1] == b","
        yield Edit("element", start, end + comma, "", f"without the {kind} {source.content[start:end].decode()[:60]}")


def filtered(source: Source, node: ast.comprehension) -> Iterator[Edit]:
    """A comprehension keeps everything."""
    for condition in node.ifs:
        yield source.replaced("branch", condition, "True", f"filter dropped: {source.code(condition)[:60]}")


def branched(source: Source, node: ast.If | ast.IfExp) -> Iterator[Edit]:
    """The branches change places, or what ends a function early does not."""
    text = source.code(node.test)
    yield source.replaced("branch", node.test, f"(not ({text}))", f"branches exchanged: if {text[:60]}")
    if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise | ast.Return):
        yield source.replaced("branch", node.test, f"(False and ({text}))", f"never: if {text[:60]}")


def dropped(source: Source, node: ast.stmt) -> Iterator[Edit]:
    """A statement that returns nothing is left out."""
    assigned = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)
    spoken = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call | ast.Await)
    if not spoken and (not isinstance(node, ast.Assign) or assigned):
        new = "continue" if isinstance(node, ast.Break) else "pass"
        yield source.replaced("dropped", node, new, f"without {' '.join(source.code(node).split())[:60]}")


def ended(source: Source, node: ast.FunctionDef) -> Iterator[Edit]:
    """A function returns at once: nothing, its first argument, or a truth value."""
    body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
    if any("contextmanager" in source.code(one) for one in node.decorator_list) or body[0].lineno == node.lineno:
        return
    start = source.span(body[0])[0]
    returns = source.code(node.returns) if node.returns else "None"
    arguments = [one.arg for one in (*node.args.posonlyargs, *node.args.args) if one.arg not in ("self", "cls")]
    values = ["True", "False"] if returns == "bool" else arguments[:1]
    if returns == "None" or "Iterator" in returns:
        values = [""]
    for value in values:
        new = f"return {value}".strip()
        yield Edit("early", start, start, f"{new}\n{' ' * body[0].col_offset}", f"{new} at once in {node.name}")


OPERATORS: tuple[tuple[type[ast.AST] | tuple[type[ast.AST], ...], Callable[..., Iterator[Edit]]], ...] = (
    (ast.FunctionDef, ended),
    ((ast.Raise, ast.Expr, ast.AugAssign, ast.Assign, ast.Continue, ast.Break), dropped),
    (ast.AugAssign, added),
    ((ast.If, ast.IfExp), branched),
    (ast.comprehension, filtered),
    (ast.Compare, compared),
    (ast.BinOp, reckoned),
    (ast.BoolOp, joined),
    (ast.UnaryOp, signed),
    (ast.Constant, constant),
    (ast.Attribute, attribute),
    (ast.Dict, mapped),
    ((ast.Tuple, ast.List), collected),
    (ast.Call, called),
)  # fmt: skip


def places(source: Source) -> Iterator[tuple[ast.AST, tuple[Span, ...]]]:
    """Every node that may be changed, with the lines (narrowest first) of which a test must execute one.

    Left out is what no behaviour depends on: imports, annotations, docstrings, logging, and the words of messages.
    """
    waiting: list[tuple[ast.AST, tuple[Span, ...]]] = [(node, (MODULE,)) for node in source.tree.body]
    while waiting:
        node, around = waiting.pop()
        if _wording(source, node):
            continue
        below = around
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            below = ((node.body[0].lineno, node.end_lineno or node.lineno), *around)
        elif isinstance(node, ast.ClassDef) or (len(around) > 1 and _simple(node)):
            below = ((node.lineno, node.end_lineno or node.lineno), *around)
        own = below
        if isinstance(node, ast.expr) and len(around) > 1:
            own = ((node.lineno, node.end_lineno or node.lineno), *around)
        yield node, own
        if not isinstance(node, ast.Raise | ast.JoinedStr):  # what is said is no behaviour
            skipped = {id(one) for one in (getattr(node, "annotation", None), getattr(node, "returns", None)) if one}
            waiting += [(one, below) for one in ast.iter_child_nodes(node) if id(one) not in skipped]


def _simple(node: ast.AST) -> bool:
    return isinstance(node, ast.stmt) and not hasattr(node, "body")


def _wording(source: Source, node: ast.AST) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.arg):
        return True
    if isinstance(node, ast.keyword):
        return node.arg in NO_BEHAVIOUR
    if isinstance(node, ast.If) and source.code(node.test) == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) or source.code(node).startswith(("log.", "warnings."))
    return False


def mutants(module: str, text: str) -> list[Mutant]:
    """All mutants of a module's source, in its order; none is the module itself, nor another one's twin."""
    source = Source(text)
    return sorted(_made(module, source, _edits(source)), key=lambda mutant: (mutant.line, mutant.about))


def drawn(module: str, text: str, number: int, seed: str) -> list[Mutant]:
    """So many mutants of a module, by a seed: at most one a line until the lines are used up."""
    rng = random.Random(f"{seed}/{module}")
    source = Source(text)
    turns = [(rng.random() ** (1 / LIKELIHOOD.get(edit.operator, 1.0)), edit, spans) for edit, spans in _edits(source)]
    first, rest = [], []
    used: set[int] = set()
    for _, edit, spans in sorted(turns, key=lambda turn: -turn[0]):
        line = source.line(edit.start)
        (rest if line in used else first).append((edit, spans))
        used.add(line)
    return list(itertools.islice(_made(module, source, [*first, *rest]), number))


def _edits(source: Source) -> Iterator[tuple[Edit, tuple[Span, ...]]]:
    for node, spans in places(source):
        for kinds, make in OPERATORS:
            if isinstance(node, kinds):
                yield from ((edit, spans) for edit in make(source, node))


def _made(module: str, source: Source, edits: Iterable[tuple[Edit, tuple[Span, ...]]]) -> Iterator[Mutant]:
    """The mutants of edits, but for those that are no program or none of their own."""
    same, seen = ast.dump(source.tree), set()
    for edit, spans in edits:
        changed = (source.content[: edit.start] + edit.new.encode() + source.content[edit.end :]).decode()
        if changed not in seen and _differs(changed, same):
            yield _mutant(module, source, edit, spans, changed)
        seen.add(changed)


def _differs(changed: str, same: str) -> bool:
    try:
        return ast.dump(ast.parse(changed)) != same
    except SyntaxError:
        return False


def _mutant(module: str, source: Source, edit: Edit, spans: tuple[Span, ...], changed: str) -> Mutant:
    line, last = source.line(edit.start), source.line(edit.end)
    old, new = source.content.decode().splitlines(), changed.splitlines()
    after = new[line - 1 : last + len(new) - len(old)]
    return Mutant(
        module, line, edit.operator, edit.about,
        " ".join(" ".join(old[line - 1 : last]).split()), " ".join(" ".join(after).split()), spans, changed,
    )  # fmt: skip
