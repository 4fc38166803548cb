// A card that computes nothing, for machines without one: what CUDA's libraries answer to Jittor.
// Memory is the host's, kernels are not run, whatever is asked back is 0, and all else succeeds:
// functions that are not here are added by stand_in.py, from the real library's table, and return 0. The
// name of a library is defined where it is compiled as that.
#include <cstdlib>
#include <cstring>

#ifdef CUDA
#include <cuda.h>

extern "C" {
CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *version) {
    *version = DRIVER;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int *count) {
    *count = 2;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice *device, int number) {
    *device = number;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int size, CUdevice) {
    strncpy(name, "stand-in", size);
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute what, CUdevice device) {
    // sm_80 and sm_90: every kernel is compiled for both.
    *value = what == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? (device ? 9 : 8) : 0;
    return CUDA_SUCCESS;
}
}
#endif

#ifdef CUDART
#include <cuda_runtime.h>

extern "C" {
cudaError_t cudaGetDeviceCount(int *count) {
    *count = 2;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
    memset(properties, 0, sizeof *properties);
    strcpy(properties->name, "stand-in");
    properties->major = device ? 9 : 8;
    properties->totalGlobalMem = size_t(1) << 32;
    properties->multiProcessorCount = 100;
    properties->maxThreadsPerBlock = 1024;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->sharedMemPerBlock = 48 << 10;
    properties->warpSize = 32;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr what, int) {
    *value = what == cudaDevAttrComputeCapabilityMajor ? 8 : 32;
    return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *) {
    memset(attributes, 0, sizeof *attributes);
    attributes->ptxVersion = attributes->binaryVersion = 80;
    attributes->maxThreadsPerBlock = 1024;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    int *blocks, const void *, int, size_t, unsigned) {
    *blocks = 1;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(
    int *blocks, const void *, int, size_t) {
    *blocks = 1;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    *free = *total = size_t(1) << 32;
    return cudaSuccess;
}
cudaError_t cudaMalloc(void **memory, size_t size) {
    *memory = calloc(size ? size : 1, 1);
    return *memory ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaMallocManaged(void **memory, size_t size, unsigned) {
    return cudaMalloc(memory, size);
}
cudaError_t cudaMallocHost(void **memory, size_t size) { return cudaMalloc(memory, size); }
cudaError_t cudaHostAlloc(void **memory, size_t size, unsigned) {
    return cudaMalloc(memory, size);
}
cudaError_t cudaFree(void *memory) {
    free(memory);
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *memory) { return cudaFree(memory); }
cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind kind) {
    if (kind == cudaMemcpyDeviceToHost)
        memset(to, 0, size);
    else
        memmove(to, from, size);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(
    void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t) {
    return cudaMemcpy(to, from, size, kind);
}
cudaError_t cudaMemset(void *memory, int value, size_t size) {
    memset(memory, value, size);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *memory, int value, size_t size, cudaStream_t) {
    return cudaMemset(memory, value, size);
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t, cudaEvent_t) {
    *milliseconds = 1;
    return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t function, void *data) {
    function(data);
    return cudaSuccess;
}
const char *cudaGetErrorString(cudaError_t) { return "no error"; }
const char *cudaGetErrorName(cudaError_t) { return "cudaSuccess"; }
void **__cudaRegisterFatBinary(void *) {
    static void *handle;
    return &handle;
}
}
#endif

#ifdef CUDNN
#include <cudnn.h>

// The best algorithm is always the first, which needs no memory of its own.
extern "C" {
typedef cudnnTensorDescriptor_t Tensor;
typedef cudnnFilterDescriptor_t Filter;
typedef cudnnConvolutionDescriptor_t Convolution;

cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(
    cudnnHandle_t, const Tensor, const void *, const Filter, const void *, const Convolution,
    const Tensor, void *, const int, int *count, cudnnConvolutionFwdAlgoPerf_t *results, void *,
    size_t) {
    memset(results, 0, sizeof *results);
    *count = 1;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(
    cudnnHandle_t, const Tensor, const void *, const Tensor, const void *, const Convolution,
    const Filter, void *, const int, int *count, cudnnConvolutionBwdFilterAlgoPerf_t *results,
    void *, size_t) {
    memset(results, 0, sizeof *results);
    *count = 1;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(
    cudnnHandle_t, const Filter, const void *, const Tensor, const void *, const Convolution,
    const Tensor, void *, const int, int *count, cudnnConvolutionBwdDataAlgoPerf_t *results,
    void *, size_t) {
    memset(results, 0, sizeof *results);
    *count = 1;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(
    cudnnHandle_t, const Tensor, const Filter, const Convolution, const Tensor,
    cudnnConvolutionFwdAlgo_t, size_t *size) {
    *size = 0;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(
    cudnnHandle_t, const Tensor, const Tensor, const Convolution, const Filter,
    cudnnConvolutionBwdFilterAlgo_t, size_t *size) {
    *size = 0;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(
    cudnnHandle_t, const Filter, const Tensor, const Convolution, const Tensor,
    cudnnConvolutionBwdDataAlgo_t, size_t *size) {
    *size = 0;
    return CUDNN_STATUS_SUCCESS;
}
}
#endif
