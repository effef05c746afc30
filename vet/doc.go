// Package vet finds mistakes in the use of Perdure, as passes of go/analysis.
//
// The command perdurevet runs all of them:
//
//	go install github.com/seed-0f2c7998/perdure/vet/cmd/perdurevet@latest
//	go vet -vettool=$(which perdurevet) ./...
//
// The passes are:
//
//   - perdurenested: a retry around a client that retries, unless the error of the client is
//     marked as permanent; the client, or the function that calls it, may be of another
//     package of the program;
//   - perdurepost: a POST or PATCH that is repeated without an idempotency key;
//   - perdurecontext: an attempt that calls something with another context than its own, or
//     without one;
//   - perdurerewind: a reader or a request body that each attempt reads and none rewinds;
//   - perdureerrortext: a Classify that decides by the text of an error;
//   - perdurechanged: a policy that is changed after its first use;
//   - perdurevalues: a policy, or a configuration of a breaker, with invalid constants.
//
// An attempt is what retry.Do, retry.Value, sqlretry.Tx or pgxretry.Tx repeats: a function literal, or a function or
// a variable of the same package. Except perdurenested, a pass sees one package at a time.
// None reports code that it cannot follow.
package vet

import "golang.org/x/tools/go/analysis"

// Analyzers returns all passes.
func Analyzers() []*analysis.Analyzer {
	return []*analysis.Analyzer{nested, post, ownContext, rewind, errorText, changed, values}
}
