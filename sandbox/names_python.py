"""Allow-list of names per standard-library module, and of built-ins. Data only; anything not listed does not exist.

Left out on purpose: `operator.attrgetter/methodcaller` (read attributes past the guard), `functools.update_wrapper`
and friends (write attributes past the guard; `wraps` is replaced by a plain one), `dataclasses.make_dataclass`,
`typing.get_type_hints` (evaluates strings), `random.SystemRandom` (not reproducible), `id` (not reproducible).
"""

from __future__ import annotations

from sandbox.words import words

BUILTINS = words(
    """
    abs all any bool bytearray bytes callable chr classmethod complex dict divmod enumerate filter float format
    ascii bin frozenset hash hex int isinstance issubclass iter len list map max min next object oct ord pow property range
    repr reversed round set slice sorted staticmethod str sum super tuple zip
    ArithmeticError AssertionError AttributeError BaseException EOFError Exception FloatingPointError IndexError
    KeyError LookupError MemoryError NameError NotImplementedError OverflowError RecursionError
    RuntimeError RuntimeWarning StopIteration SyntaxError TypeError UnboundLocalError UnicodeError UserWarning
    ValueError Warning ZeroDivisionError DeprecationWarning ImportError ModuleNotFoundError OSError IOError
    FileNotFoundError PermissionError TimeoutError FutureWarning PendingDeprecationWarning BufferError StopAsyncIteration
    SystemError UnicodeDecodeError UnicodeEncodeError SyntaxWarning ResourceWarning ExceptionGroup
    True False None NotImplemented Ellipsis __debug__
    """
)
"""Taken as they are. Beside these the guards supply: __build_class__, __import__, delattr, getattr, hasattr, print, setattr, type."""

GUARDED_BUILTINS = words("__build_class__ __import__ delattr getattr hasattr print setattr type")

MISSING_BUILTINS = words(
    """
    open exec eval compile input globals locals vars dir breakpoint memoryview exit quit help id copyright credits
    license aiter anext __loader__ __spec__ __builtins__ SystemExit KeyboardInterrupt GeneratorExit
    """
)
"""Built-ins of Python that programs do not get; known by name so that the refusal comes before the run."""

STANDARD: dict[str, frozenset[str]] = {
    "math": words(
        """
        acos acosh asin asinh atan atan2 atanh cbrt ceil comb copysign cos cosh degrees dist e erf erfc exp exp2 expm1
        fabs factorial floor fmod frexp fsum gamma gcd hypot inf isclose isfinite isinf isnan isqrt lcm ldexp lgamma
        log log10 log1p log2 modf nan nextafter perm pi pow prod radians remainder sin sinh sqrt tan tanh tau trunc ulp
        """
    ),
    "itertools": words(
        """
        accumulate batched chain combinations combinations_with_replacement compress count cycle dropwhile filterfalse
        groupby islice pairwise permutations product repeat starmap takewhile tee zip_longest
        """
    ),
    "functools": words(
        "cache cached_property cmp_to_key lru_cache partial partialmethod reduce total_ordering update_wrapper wraps"
    ),
    "collections": words("ChainMap Counter OrderedDict UserDict UserList abc defaultdict deque namedtuple"),
    "collections.abc": words(
        """
        Callable Collection Container Generator Hashable ItemsView Iterable Iterator KeysView Mapping MutableMapping
        MutableSequence MutableSet Reversible Sequence Set Sized ValuesView
        """
    ),
    "dataclasses": words(
        "FrozenInstanceError KW_ONLY MISSING InitVar asdict astuple dataclass field fields is_dataclass replace"
    ),
    "typing": words(
        """
        Annotated Any Callable ClassVar DefaultDict Deque Dict Final FrozenSet Generator Generic Iterable Iterator List
        Literal Mapping MutableMapping MutableSequence NamedTuple NewType NoReturn Optional OrderedDict ParamSpec
        Protocol Self Sequence Set Tuple Type TypeAlias TypedDict TypeVar Union Counter cast final overload
        TYPE_CHECKING AbstractSet AnyStr Collection Concatenate Container ContextManager Hashable ItemsView KeysView
        LiteralString Match MutableSet Never NotRequired Pattern Required Reversible Sized SupportsFloat SupportsIndex
        SupportsInt Text TypeGuard TypeVarTuple Unpack ValuesView assert_never get_args get_origin override
        runtime_checkable
        """
    ),
    "random": words(
        """
        Random betavariate choice choices expovariate gammavariate gauss lognormvariate normalvariate paretovariate
        getrandbits randint random randrange sample seed shuffle triangular uniform vonmisesvariate weibullvariate
        """
    ),
    "copy": words("copy deepcopy"),
    "operator": words(
        """
        abs add and_ concat contains countOf delitem eq floordiv ge getitem gt iadd iand ifloordiv imatmul imul index
        indexOf inv invert ior ipow is_ is_not isub itemgetter itruediv ixor le lshift lt matmul mod mul ne neg not_ or_ pos pow
        rshift setitem sub truediv truth xor
        """
    ),
    "abc": words("ABC ABCMeta abstractmethod"),
    "enum": words("Enum Flag IntEnum IntFlag StrEnum auto unique"),
    "heapq": words("heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest"),
    "bisect": words("bisect bisect_left bisect_right insort insort_left insort_right"),
    "statistics": words(
        """
        StatisticsError correlation covariance fmean geometric_mean harmonic_mean linear_regression mean median median_grouped
        median_high median_low mode multimode pstdev pvariance quantiles stdev variance
        """
    ),
    "re": words(
        """
        A ASCII DOTALL I IGNORECASE M MULTILINE Match Pattern S X VERBOSE compile error escape findall finditer fullmatch
        match search split sub subn
        """
    ),
    "contextlib": words(
        "AbstractContextManager ContextDecorator ExitStack closing contextmanager nullcontext suppress"
    ),
    "cmath": words(
        "acos asin atan cos cosh e exp inf isclose isfinite isinf isnan log log10 nan phase pi polar rect sin sinh sqrt tan tanh tau"
    ),
    "json": words("dumps loads"),
    "types": words("SimpleNamespace"),
    "string": words("ascii_letters ascii_lowercase ascii_uppercase digits hexdigits octdigits punctuation whitespace"),
    "logging": words(
        "CRITICAL DEBUG ERROR INFO NOTSET WARNING basicConfig critical debug error exception getLogger info log warning"
    ),
    "time": words("monotonic perf_counter process_time sleep time time_ns perf_counter_ns"),
    "gc": words("collect disable enable isenabled"),
    "traceback": words("format_exc print_exc"),
    "numbers": words("Complex Integral Number Rational Real"),
    "__future__": words("annotations division absolute_import print_function unicode_literals generator_stop"),
    "warnings": words("catch_warnings filterwarnings resetwarnings simplefilter warn"),
}
"""`warnings`, `logging`, `traceback` and `gc` are stand-ins whose functions do nothing: honest programs silence warnings and log, and there is nobody
to hear them. `time` stands still at zero: results must not depend on it."""

SPECIAL_METHODS = words(
    """
    __init__ __call__ __len__ __iter__ __next__ __getitem__ __setitem__ __delitem__ __contains__ __repr__ __str__
    __bool__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __hash__ __add__ __radd__ __iadd__ __sub__ __rsub__ __isub__
    __mul__ __rmul__ __imul__ __truediv__ __rtruediv__ __itruediv__ __floordiv__ __rfloordiv__ __mod__ __rmod__
    __pow__ __rpow__ __matmul__ __rmatmul__ __neg__ __pos__ __abs__ __invert__ __and__ __or__ __xor__ __float__
    __int__ __index__ __round__ __enter__ __exit__ __post_init__ __missing__ __reversed__ __copy__ __deepcopy__ __new__
    __format__ __ior__ __iand__ __ixor__ __ipow__ __imod__ __ifloordiv__ __imatmul__ __lshift__ __rshift__ __rand__ __ror__
    __rxor__ __divmod__ __ceil__ __floor__ __trunc__ __init_subclass__ __class_getitem__ __set_name__
    """
)
"""Special methods that a program's class may define, and call by name (`super().__init__(...)`, `self.__call__(x)`)."""

MAKING_METHODS = words("__new__ __init__ __post_init__ __init_subclass__ __set_name__ __class_getitem__")
"""Of these, those that make or set up an object: of a library's class they are not given (`RandomState.__init__` would seed from outside)."""

IDENTITY = words("__name__ __doc__ __qualname__ __class__ __module__ __version__ __setattr__")
"""Special attributes that tell what something is. `__class__` only gives what `type(x)` gives, `__setattr__` one that goes through the guard."""

READABLE_SPECIALS = IDENTITY | SPECIAL_METHODS
"""Special attributes that may be read."""
