"""Allow-list of torch names. Data only; anything not listed does not exist for a merge program.

Left out on purpose: load and save in all forms, storages and raw pointers, `as_strided`, sparse and quantised
constructors (their invariants are not checked, so they read out of bounds), `from_file`, `from_dlpack`, jit, compile,
hub, ops, library, package, profiler, distributed, multiprocessing, `utils`, hooks, thread counts, and every setter of
process-wide state.
"""

from __future__ import annotations

from sandbox.words import words

_POINTWISE = """
abs absolute acos acosh add addcdiv addcmul angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan
atan2 atanh bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil clamp clamp_max
clamp_min clip conj conj_physical copysign cos cosh deg2rad digamma div divide erf erfc erfinv exp exp2 expm1 fix
float_power floor floor_divide fmod frac gcd heaviside hypot i0 igamma igammac lcm ldexp lerp lgamma log log10 log1p
log2 logaddexp logical_and logical_not logical_or logical_xor logit mul multiply mvlgamma nan_to_num neg negative
nextafter polygamma positive pow rad2deg real reciprocal relu remainder round rsqrt sgn sigmoid sign sin sinc sinh
sqrt square sub subtract tan tanh true_divide trunc xlogy eq ge greater greater_equal gt le less less_equal lt ne
not_equal
"""

_REDUCE_AND_ORDER = """
all allclose amax amin aminmax any argmax argmin argsort argwhere bincount corrcoef count_nonzero cov cummax cummin
cumprod cumsum diff dist equal histc histogram isclose isfinite isinf isnan isneginf isposinf isreal kthvalue
logcumsumexp logsumexp max maximum mean median min minimum mode msort nanmean nanmedian nanquantile nansum nonzero
norm prod quantile renorm searchsorted signbit sort std sum topk trace unique unique_consecutive var fmax fmin
"""

_SHAPE_AND_INDEX = """
broadcast_to chunk clone diag diag_embed diagflat diagonal diagonal_scatter dsplit flatten flip fliplr flipud gather
hsplit index_add index_copy index_fill index_put index_reduce index_select masked_fill masked_scatter masked_select
moveaxis movedim narrow permute ravel repeat_interleave reshape resolve_conj resolve_neg roll rot90 scatter
scatter_add scatter_reduce select select_scatter slice_scatter split squeeze swapaxes swapdims t take take_along_dim
tensor_split tile transpose tril triu unbind unflatten unsqueeze vsplit where
"""

_MATRIX = """
addbmm addmm addmv addr baddbmm bmm cholesky cholesky_inverse cholesky_solve cross det dot geqrf ger inner inverse
kron logdet lu_solve matmul matrix_exp matrix_power mm mv orgqr ormqr outer pinverse qr slogdet svd triangular_solve
vdot
"""

_SHARED = (
    _POINTWISE
    + _REDUCE_AND_ORDER
    + _SHAPE_AND_INDEX
    + _MATRIX
    + " bernoulli multinomial detach numel softmax log_softmax "
)

_FUNCTIONS_ONLY = """
arange as_tensor asarray atleast_1d atleast_2d atleast_3d bartlett_window binomial blackman_window block_diag
broadcast_shapes broadcast_tensors bucketize can_cast cartesian_prod cat cdist chain_matmul column_stack combinations
complex concat concatenate cosine_similarity cumulative_trapezoid dropout dstack einsum empty empty_like erf_ exp_ eye
finfo from_numpy full full_like get_default_dtype gradient hamming_window hann_window hstack iinfo imag is_complex
is_floating_point is_grad_enabled is_nonzero is_tensor isin kaiser_window linspace logspace lobpcg lu lu_unpack
manual_seed meshgrid normal ones ones_like pairwise_distance pca_lowrank pdist poisson polar promote_types rand
rand_like randint randint_like randn randn_like randperm range relu_ result_type row_stack rsub scalar_tensor sigmoid_
sqrt_ stack std_mean stft istft svd_lowrank tanh_ tensor tensordot trapezoid trapz tril_indices triu_indices typename
unravel_index vander var_mean view_as_complex view_as_real vstack zeros zeros_like abs_ ceil_ clamp_ floor_ neg_
round_ threshold layer_norm rms_norm conv1d conv2d max_pool1d avg_pool1d isreal prelu celu selu rrelu frexp logaddexp2
adjoint is_same_size is_signed initial_seed equal no_grad enable_grad inference_mode set_grad_enabled
"""

_IN_PLACE_FUNCTIONS = """
acos_ acosh_ arccos_ arccosh_ arcsin_ arcsinh_ arctan_ arctanh_ asin_ asinh_ atan_ atanh_ clamp_max_ clamp_min_ clip_ cos_
cosh_ deg2rad_ detach_ dropout_ erfc_ exp2_ expm1_ fill_ fix_ frac_ index_put_ ldexp_ log10_ log1p_ log2_ log_ logit_
nan_to_num_ negative_ rad2deg_ reciprocal_ rsqrt_ selu_ celu_ rrelu_ sin_ sinc_ sinh_ square_ tan_ threshold_ trunc_ xlogy_
zero_
"""

_MORE_FUNCTIONS = """
adaptive_avg_pool1d adaptive_max_pool1d fill frobenius_norm group_norm hardshrink histogramdd kl_div max_pool2d nuclear_norm
pixel_shuffle pixel_unshuffle put split_with_sizes vmap get_rng_state set_rng_state get_num_threads is_inference_mode_enabled __version__
set_printoptions set_float32_matmul_precision use_deterministic_algorithms set_num_threads set_default_dtype
"""

_TYPES_AND_CONSTANTS = """
Tensor FloatTensor DoubleTensor HalfTensor BFloat16Tensor LongTensor IntTensor BoolTensor ByteTensor Generator Size
device dtype layout memory_format strided contiguous_format preserve_format channels_last float float16 float32
float64 half double bfloat16 int int8 int16 int32 int64 short long uint8 bool complex32 complex64 complex128 cfloat
cdouble e inf nan newaxis pi OutOfMemoryError
"""

_MODULES = " nn linalg special fft cuda backends random autograd mps func "

TORCH: dict[str, frozenset[str]] = {
    "torch": words(_SHARED + _FUNCTIONS_ONLY + _IN_PLACE_FUNCTIONS + _MORE_FUNCTIONS + _TYPES_AND_CONSTANTS + _MODULES),
    "torch.nn": words(
        """
        functional init Parameter CosineSimilarity PairwiseDistance Softmax Softmin LogSoftmax ReLU LeakyReLU GELU SiLU ELU Sigmoid
        Tanh Softplus Identity Flatten MSELoss L1Loss SmoothL1Loss HuberLoss KLDivLoss CosineEmbeddingLoss LayerNorm
        Module ModuleList ModuleDict Sequential Linear Dropout BCELoss BCEWithLogitsLoss CrossEntropyLoss NLLLoss
        TripletMarginLoss MarginRankingLoss Hardtanh Hardsigmoid Hardswish Mish Softshrink Softsign Tanhshrink SELU CELU PReLU
        Threshold LogSigmoid GLU AvgPool1d AvgPool2d MaxPool1d MaxPool2d AdaptiveAvgPool1d GroupNorm RMSNorm Unflatten ReLU6
        """
    ),
    "torch.nn.functional": words(
        """
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d avg_pool1d avg_pool2d batch_norm binary_cross_entropy
        conv3d embedding group_norm instance_norm nll_loss pixel_shuffle pixel_unshuffle poisson_nll_loss relu_ leaky_relu_
        binary_cross_entropy_with_logits celu conv1d conv2d cosine_embedding_loss cosine_similarity cross_entropy
        dropout elu fold gaussian_nll_loss gelu glu gumbel_softmax hardshrink hardsigmoid hardswish hardtanh
        hinge_embedding_loss huber_loss interpolate kl_div l1_loss layer_norm leaky_relu linear log_softmax logsigmoid
        lp_pool1d margin_ranking_loss max_pool1d max_pool2d mish mse_loss normalize one_hot pad pairwise_distance
        pdist prelu relu relu6 rms_norm scaled_dot_product_attention selu sigmoid silu smooth_l1_loss soft_margin_loss
        softmax softmin softplus softshrink softsign tanh tanhshrink threshold triplet_margin_loss unfold
        """
    ),
    "torch.linalg": words(
        """
        LinAlgError cholesky cholesky_ex cond cross det diagonal eig eigh eigvals eigvalsh householder_product inv
        inv_ex ldl_factor ldl_solve lstsq lu lu_factor lu_solve matmul matrix_exp matrix_norm matrix_power matrix_rank
        multi_dot norm pinv qr slogdet solve solve_ex solve_triangular svd svdvals tensorinv tensorsolve vander vecdot
        vector_norm
        """
    ),
    "torch.special": words(
        """
        digamma entr erf erfc erfcx erfinv exp2 expit expm1 gammainc gammaincc gammaln i0 i0e i1 i1e log1p log_ndtr
        log_softmax logit logsumexp multigammaln ndtr ndtri polygamma psi round sinc softmax xlog1py xlogy zeta
        """
    ),
    "torch.fft": words(
        """
        fft fft2 fftfreq fftn fftshift hfft ifft ifft2 ifftn ifftshift ihfft irfft irfft2 irfftn rfft rfft2 rfftfreq
        rfftn
        """
    ),
    "torch.cuda": words(
        """
        current_device device_count empty_cache is_available is_bf16_supported is_initialized manual_seed manual_seed_all
        max_memory_allocated memory_allocated reset_peak_memory_stats synchronize set_device get_device_name ipc_collect
        mem_get_info OutOfMemoryError
        """
    ),
    "torch.mps": words("empty_cache is_available"),
    "torch.nn.init": words(
        """
        constant_ dirac_ eye_ kaiming_normal_ kaiming_uniform_ normal_ ones_ orthogonal_ trunc_normal_ uniform_ xavier_normal_ xavier_uniform_
        zeros_ calculate_gain
        """
    ),
    "torch.backends": words("mps cuda cudnn"),
    "torch.backends.mps": words("is_available is_built"),
    "torch.backends.cuda": words("is_available is_built matmul"),
    "torch.random": words("fork_rng manual_seed initial_seed get_rng_state set_rng_state"),
    "torch.autograd": words("grad backward no_grad enable_grad set_grad_enabled"),
    "torch.func": words("vmap"),
}
"""`torch.cuda`, `torch.mps` and `torch.backends` are stand-ins that say "not available": what runs here runs on the
CPU."""

_IN_PLACE = """
abs_ absolute_ acos_ acosh_ add_ addbmm_ addcdiv_ addcmul_ addmm_ addmv_ addr_ asin_ asinh_ atan_ atan2_ atanh_
arctan_ baddbmm_ bernoulli_ bitwise_and_ bitwise_not_ bitwise_or_ bitwise_xor_ cauchy_ ceil_ clamp_ clamp_max_
clamp_min_ clip_ copy_ copysign_ cos_ cosh_ cumprod_ cumsum_ deg2rad_ detach_ digamma_ div_ divide_ eq_ erf_ erfc_
erfinv_ exp_ exp2_ expm1_ exponential_ fill_ fill_diagonal_ fix_ float_power_ floor_ floor_divide_ fmod_ frac_ gcd_
ge_ geometric_ greater_ greater_equal_ gt_ heaviside_ hypot_ i0_ index_add_ index_copy_ index_fill_ index_put_
index_reduce_ lcm_ ldexp_ le_ lerp_ less_ less_equal_ lgamma_ log10_ log1p_ log2_ log_ log_normal_ logical_and_
logical_not_ logical_or_ logical_xor_ logit_ lt_ masked_fill_ masked_scatter_ mul_ multiply_ nan_to_num_ ne_ neg_
negative_ nextafter_ normal_ not_equal_ pow_ put_ rad2deg_ random_ reciprocal_ relu_ remainder_ renorm_ requires_grad_
round_ rsqrt_ scatter_ scatter_add_ scatter_reduce_ sgn_ sigmoid_ sign_ sin_ sinc_ sinh_ sqrt_ square_ squeeze_ sub_
subtract_ swapaxes_ t_ tan_ tanh_ transpose_ tril_ triu_ true_divide_ trunc_ uniform_ unsqueeze_ xlogy_ zero_
"""

_METHODS_ONLY = """
H T mH mT backward bfloat16 bool byte char contiguous cpu cuda data device dim double dtype element_size expand
expand_as float grad grad_fn half imag int is_complex is_contiguous is_cpu is_cuda is_floating_point is_leaf
is_nonzero is_same_size is_signed is_sparse item itemsize layout long nbytes ndim ndimension nelement new_empty
new_full new_ones new_tensor new_zeros numpy repeat requires_grad reshape_as retain_grad shape short size
split_with_sizes storage_offset stride sum_to_size to tolist type type_as unfold view view_as
istft to_dense log_softmax softmax cfloat cdouble adjoint hardshrink prelu get_device is_meta is_quantized name broadcast_to frexp
stft logaddexp2 rsub
"""

TENSOR_NAMES = words(_SHARED + _IN_PLACE + _METHODS_ONLY)
"""Of tensors, as methods and attributes. Not listed: `data_ptr`, storages, `set_`, `resize_`, `as_strided`, `share_memory_`, hooks;
`apply_` and `map_`, whose function could give the memory back that they walk over."""

MODULE_NAMES = words(
    """
    forward eval train training parameters named_parameters children named_children modules named_modules buffers named_buffers
    register_buffer register_parameter zero_grad requires_grad_ to float double half bfloat16 cpu append extend insert weight
    bias in_features out_features extra_repr add_module state_dict
    """
)
"""Of torch.nn modules, as methods and attributes. Not listed: hooks, `compile`, `share_memory`, `apply`."""

TENSOR_WRITABLE = frozenset(["data", "grad", "requires_grad"])
"""Attributes of a tensor that may be assigned."""
