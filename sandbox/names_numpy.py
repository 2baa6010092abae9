"""Allow-list of numpy names. Data only; anything not listed does not exist for a merge program.

Left out on purpose: everything that reads or writes files or memory maps, `lib`, `ctypeslib`, `test`, `from_dlpack`,
`as_strided`, `object_` (its elements are compared by code that trusts them), `r_` and `c_` (they look names up in the calling
frame).
"""

from __future__ import annotations

from sandbox.words import words

_ARITHMETIC = """
abs absolute acos acosh add all allclose amax amin angle any append apply_along_axis apply_over_axes arange arccos
arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argpartition argsort argwhere around array array_equal
array_equiv array_split asanyarray asarray ascontiguousarray asin asinh astype atan atan2 atanh atleast_1d atleast_2d
atleast_3d average bartlett bincount bitwise_and bitwise_not bitwise_or bitwise_xor blackman block broadcast_arrays
broadcast_shapes broadcast_to cbrt ceil choose clip column_stack compress concat concatenate conj conjugate convolve
copy copysign copyto corrcoef correlate cos cosh count_nonzero cov cross cumprod cumsum cumulative_prod cumulative_sum
deg2rad degrees delete diag diag_indices diag_indices_from diagflat diagonal diff digitize divide divmod dot dsplit
dstack ediff1d einsum einsum_path empty empty_like equal errstate exp exp2 expand_dims expm1 extract eye fabs
fill_diagonal fix flatnonzero flip fliplr flipud float_power floor floor_divide fmax fmin fmod frexp fromfunction
fromiter full full_like gcd geomspace gradient greater greater_equal hamming hanning heaviside histogram histogram2d
histogram_bin_edges histogramdd hsplit hstack hypot i0 identity imag indices inner insert interp intersect1d invert
isclose iscomplex iscomplexobj isfinite isin isinf isnan isneginf isposinf isreal isrealobj isscalar issubdtype
iterable ix_ kaiser kron lcm ldexp left_shift less less_equal lexsort linspace log log10 log1p log2 logaddexp
logaddexp2 logical_and logical_not logical_or logical_xor logspace matmul matrix_transpose matvec max maximum mean
median meshgrid min minimum mod modf moveaxis multiply nan_to_num nanargmax nanargmin nancumprod nancumsum nanmax
nanmean nanmedian nanmin nanpercentile nanprod nanquantile nanstd nansum nanvar ndenumerate ndim ndindex negative
nextafter nonzero not_equal ones ones_like outer pad partition percentile permute_dims piecewise place polyfit polyval
positive pow power prod promote_types ptp put put_along_axis putmask quantile rad2deg radians ravel ravel_multi_index
real real_if_close reciprocal remainder repeat reshape resize result_type right_shift rint roll rollaxis roots rot90
round row_stack searchsorted select setdiff1d setxor1d shape sign signbit sin sinc sinh size sort spacing split sqrt
square squeeze stack std subtract sum swapaxes take take_along_axis tan tanh tensordot tile trace transpose trapezoid
tri tril tril_indices tril_indices_from trim_zeros triu triu_indices triu_indices_from true_divide trunc union1d
unique unique_counts unique_inverse unique_values unravel_index unstack unwrap vander var vdot vecdot vectorize vsplit
vstack where zeros zeros_like
asfortranarray may_share_memory shares_memory bitwise_count bitwise_invert bitwise_left_shift bitwise_right_shift can_cast
isfortran mask_indices format_float_positional format_float_scientific array2string array_repr array_str printoptions
seterr geterr set_printoptions binary_repr polyadd polyder polydiv polyint polymul polysub
"""

_TYPES_AND_CONSTANTS = """
bool bool_ byte complex128 complex64 complexfloating double dtype e euler_gamma finfo float16 float32 float64 floating
generic half iinfo inexact inf int16 int32 int64 int8 int_ intc integer intp long longlong nan ndarray newaxis number
pi short signedinteger single ubyte uint uint16 uint32 uint64 uint8 uintp unsignedinteger True_ False_ s_
mgrid ogrid index_exp
"""

NUMPY: dict[str, frozenset[str]] = {
    "numpy": words(_ARITHMETIC + _TYPES_AND_CONSTANTS + " linalg random fft typing __version__"),
    "numpy.typing": words("ArrayLike DTypeLike NDArray"),
    "numpy.linalg": words(
        """
        LinAlgError cholesky cond cross det diagonal eig eigh eigvals eigvalsh inv lstsq matmul matrix_norm matrix_power
        matrix_rank matrix_transpose multi_dot norm outer pinv qr slogdet solve svd svdvals tensordot tensorinv
        tensorsolve trace vecdot vector_norm
        """
    ),
    "numpy.random": words(
        """
        Generator RandomState beta binomial chisquare choice default_rng dirichlet exponential gamma geometric gumbel
        laplace logistic lognormal multinomial multivariate_normal normal pareto permutation poisson power rand
        randint randn random random_sample ranf rayleigh sample seed shuffle standard_cauchy standard_exponential
        standard_gamma standard_normal standard_t triangular uniform vonmises wald weibull
        """
    ),
    "numpy.fft": words(
        """
        fft fft2 fftfreq fftn fftshift hfft ifft ifft2 ifftn ifftshift ihfft irfft irfft2 irfftn rfft rfft2 rfftfreq
        rfftn
        """
    ),
}

NDARRAY_NAMES = words(
    """
    T tobytes all any argmax argmin argpartition argsort astype choose clip compress conj conjugate copy cumprod cumsum
    diagonal dot dtype fill flat flatten imag item itemsize mT max mean min nbytes ndim nonzero partition prod put
    ravel real repeat reshape round searchsorted shape size sort squeeze std strides sum swapaxes take tolist trace
    transpose var view is_integer as_integer_ratio
    """
)
"""Of arrays and numpy scalars. Not listed: `tofile`, `dump(s)`, `ctypes`, `data`, `base`, `setflags`, `resize`."""
