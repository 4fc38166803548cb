// Rows of an array that the workers of one training hand each other. There is no formula: nothing
// is computed here, and what is handed to whom says network/workers.py.
#ifndef KERNELS_EXCHANGE_H
#define KERNELS_EXCHANGE_H

#include <cstdint>

namespace kernels {
namespace {

// From one matrix into another: each with its rows and columns.
using Exchange = void (*)(const float*, long, long, float*, long, long);

// workers.py gives its address as a number.
inline Exchange exchange_at(double address) { return (Exchange)(uintptr_t)address; }

}  // namespace
}  // namespace kernels

#endif  // KERNELS_EXCHANGE_H
