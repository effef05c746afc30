// Package testseed returns the seeds of tests' random numbers: the same seed in
// each ordinary run, so that a run that passed passes again, and other seeds on
// demand.
package testseed

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Variable names the environment variable that chooses the seeds: "random"
// draws one for each call of [Of]; a whole number of at most 32 bits is the seed of
// every test. Unset or empty, each test has its fixed seed.
const Variable = "PERDURE_TEST_SEED"

// Of returns the seed of a test: fixed, or as [Variable] says. It logs the seed, so
// that the report of a failure says how to repeat it, and fails the test if the
// variable has another value. It is safe for concurrent use.
func Of(tb testing.TB, fixed uint64) uint64 {
	tb.Helper()
	seed := fixed
	switch text := os.Getenv(Variable); text {
	case "":
	case "random":
		seed = uint64(rand.Uint32())
	default:
		var err error
		if seed, err = strconv.ParseUint(text, 10, 32); err != nil {
			tb.Fatalf("%s is %q, want random or a whole number of at most 32 bits", Variable, text)
		}
	}
	tb.Logf("%s=%d", Variable, seed)
	return seed
}
