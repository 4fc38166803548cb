// CUB 3, of CUDA 13, left these to the standard library and Thrust; Jittor's softmax and where()
// still ask CUB for them.
#pragma once
#include "../../nvidia/cu13/include/cccl/cub/cub.cuh"
#include <cuda/functional>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>

namespace cub {
using Max = ::cuda::maximum<>;
template <class Value>
using CountingInputIterator = ::thrust::counting_iterator<Value>;
template <class Value, class Function, class Input>
using TransformInputIterator = ::thrust::transform_iterator<Function, Input, Value>;
}  // namespace cub
