/* The vector type of the instruction set that you compile for, as fastconv's own kernels have it.
 *
 * Define FASTCONV_REAL as float or double first. See the header that is included for what it declares: `vec`, a GCC and Clang
 * vector of `LANES` elements that may lie at any address of an element, with arithmetic by the ordinary operators.
 */
#include "../../_kernels/simd.h"
