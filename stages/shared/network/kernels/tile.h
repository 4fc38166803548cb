// What the two ways to convolve share: tiles of sums in registers, sums over groups of images, and
// whole arrays.
//
// It has no test program of its own; those of conv.h and winograd.h use it.
#ifndef KERNELS_TILE_H
#define KERNELS_TILE_H

#include "vector.h"

namespace kernels {
namespace {

// A tile of sums, `columns` vectors of channels for each of `across` things, fills the registers
// but for the operands: 24 sums of 32 registers with up to 4 vectors and a factor, or 12 of 16 with
// up to 2.
constexpr int SUMS = REGISTERS == 32 ? 24 : 12, MOST_COLUMNS = REGISTERS == 32 ? 3 : 2;
// More than 12 things are no gain, as each vector loaded is used 12 times already; and it is the
// number that the loops below are unrolled by.
constexpr int across(int columns) { return least(SUMS / columns, 12); }
// The largest number up to `most` that divides `vectors`, so that no tile is partly filled.
constexpr int divisor(int vectors, int most) {
    return vectors % most == 0 ? most : divisor(vectors, most - 1);
}

// Calls work(size, i) for i of `count` things, at most `most` at a time, about as many each time.
// Of the last ones as many as lie after `used` are left out, without a size of their own.
template <int count, int most, class Work>
inline void in_tiles(Work work, int used = count) {
    constexpr int size = ceil_div(count, ceil_div(count, most)), rest = count % size;
    for (int i = 0; i + size <= count && i < used; i += size)
        work(std::integral_constant<int, size>(), i);
    if (rest && count - rest < used)
        work(std::integral_constant<int, rest ? rest : 1>(), count - rest);
}

// sums[i][v] += sum over k < count of w[k][v] * x(i, k), one after the other. A row of w begins
// `row` floats after the one before it.
template <int n, int columns, class Operand>
inline void add_products(vec (&sums)[n][columns], int count, const float* w, int row, Operand x) {
    for (int k = 0; k < count; k++, w += row) {
        vec wv[columns];
        #pragma GCC unroll 4
        for (int v = 0; v < columns; v++) wv[v] = load(w + v * V);
        #pragma GCC unroll 12
        for (int i = 0; i < n; i++)
            #pragma GCC unroll 4
            for (int v = 0; v < columns; v++) sums[i][v] = fma(wv[v], all(x(i, k)), sums[i][v]);
    }
}

// The sums from and to rows of memory that begin `row` floats after each other.
template <int n, int columns>
inline void load_sums(const float* from, int row, vec (&sums)[n][columns]) {
    #pragma GCC unroll 12
    for (int i = 0; i < n; i++)
        #pragma GCC unroll 4
        for (int v = 0; v < columns; v++) sums[i][v] = load(from + i * row + v * V);
}
template <int n, int columns>
inline void store_sums(const vec (&sums)[n][columns], float* to, int row) {
    #pragma GCC unroll 12
    for (int i = 0; i < n; i++)
        #pragma GCC unroll 4
        for (int v = 0; v < columns; v++) store(to + i * row + v * V, sums[i][v]);
}

// Images are summed in groups of a fixed number, whatever the number of threads, so that the order
// of the additions, and with it the last bit, is always the same. 16 keep many cores busy, and cost
// little memory.
constexpr int GROUPS = 16;

// partial[0] = sum of partial[group].
inline void add_groups(long groups, long size, float* partial) {
    #pragma omp for schedule(static)
    for (long i = 0; i < size; i += V) {
        vec sum{};
        for (long group = 0; group < groups; group++) sum += load(partial + group * size + i);
        store(partial + i, sum);
    }
}

// sum += each of `count` rows of `wide` floats
inline void add_rows(const float* rows, int count, int wide, float* sum) {
    for (int o = 0; o < wide; o += V) {
        vec total = load(sum + o);
        for (int p = 0; p < count; p++) total += load(rows + p * wide + o);
        store(sum + o, total);
    }
}

// What Own, which convolves image by image, offers for whole arrays.
template <class Own>
struct Convolution {
    static void forward(long N, const float* x, const float* w, const float* bias, float* y) {
        constexpr int O = Own::OUTPUTS, P = Own::P;
        Own::forward_each(N, x, w, bias, [y](long n, const float* rows) {
            turn(rows, Own::WIDE_O, P, O, y + n * O * P, P);
        });
    }

    // Where dx is null it is not computed.
    static void grad(long N, const float* x, const float* w, const float* dy, const float* y,
                     float* dx, float* dw, float* dbias) {
        constexpr int O = Own::OUTPUTS, P = Own::P;
        const auto rows_of_dy = [dy, y](long n, float* rows) {
            const float* through = through_own(dy + n * O * P, y + n * O * P);
            turn(through, P, O, P, rows, Own::WIDE_O);
        };
        Own::grad_each(N, x, w, rows_of_dy, dx, dw, dbias);
    }

   private:
    // dy of one image where Own's ReLU let it through. Not in the lambda itself: there Clang 14
    // takes the id of `scratch` for no constant.
    static const float* through_own(const float* dy, const float* y) {
        constexpr size_t SIZE = (size_t)Own::OUTPUTS * Own::P;
        return Own::HAS_RELU ? through_relu(dy, y, SIZE, scratch<8>(SIZE)) : dy;
    }
};

}  // namespace
}  // namespace kernels

#endif  // KERNELS_TILE_H
