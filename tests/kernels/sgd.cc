#include "stages/shared/network/kernels/sgd.h"

#include "tests/kernels/check.h"

using check::Floats;
using check::numbers;
using check::unwritten;

struct Arrays {
    Floats weights, gradients, velocities, new_weights, new_velocities;
    explicit Arrays(long count)
        : weights(numbers(count)),
          gradients(numbers(count)),
          velocities(numbers(count)),
          new_weights(unwritten(count)),
          new_velocities(unwritten(count)) {}
    kernels::Parameter parameter() {
        return {(long)weights.size(), weights.data(),     gradients.data(),
                velocities.data(),    new_weights.data(), new_velocities.data()};
    }
};

void compare(long first, long second, float dampening, bool nesterov) {
    check::shape("of %ld and %ld, dampening %g nesterov %d", first, second, dampening, nesterov);
    Arrays a(first), b(second), fast_a = a, fast_b = b;
    kernels::plain_sgd(a.parameter(), 0.1f, 0.9f, 0.01f, dampening, nesterov);
    kernels::plain_sgd(b.parameter(), 0.1f, 0.9f, 0.01f, dampening, nesterov);
    kernels::sgd({fast_a.parameter(), fast_b.parameter()}, 0.1f, 0.9f, 0.01f, dampening, nesterov);
    check::same("weights", a.new_weights, fast_a.new_weights);
    check::same("velocities", a.new_velocities, fast_a.new_velocities);
    check::same("weights of the second", b.new_weights, fast_b.new_weights);
    check::same("velocities of the second", b.new_velocities, fast_b.new_velocities);
}

int main() {
    compare(1, 1000, 0, false);
    compare(77, 3, 0.3f, true);
    compare(16, 0, 0.3f, false);
    compare(100003, 5, 0, true);
    return check::result();
}
