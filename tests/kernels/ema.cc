#include "stages/shared/network/kernels/ema.h"

#include "tests/kernels/check.h"

using check::numbers;
using check::unwritten;

void compare(long first, long second, float decay) {
    check::shape("of %ld and %ld, decay %g", first, second, decay);
    const auto averages = numbers(first), values = numbers(first);
    const auto more_averages = numbers(second), more_values = numbers(second);
    auto a = unwritten(first), fast_a = a, b = unwritten(second), fast_b = b;
    kernels::plain_update_ema({first, averages.data(), values.data(), a.data()}, decay);
    kernels::plain_update_ema({second, more_averages.data(), more_values.data(), b.data()}, decay);
    kernels::update_ema({{first, averages.data(), values.data(), fast_a.data()},
                         {second, more_averages.data(), more_values.data(), fast_b.data()}},
                        decay);
    check::same("averages", a, fast_a);
    check::same("averages of the second", b, fast_b);
}

int main() {
    compare(1, 1000, 0.99f);
    compare(77, 3, 0);
    compare(100003, 0, 1);
    return check::result();
}
