// CUDA 13 took two fields from cudaDeviceProp. Jittor's helper_cuda.h names them in functions that
// look for the fastest card, which nothing here calls: any other number does for them.
#pragma once
#include "../nvidia/cu13/include/cuda_runtime.h"
#define clockRate memoryBusWidth
#define computeMode integrated
