// Package metrics counts what operations and breakers do, and exposes the counts to
// Prometheus, without dependencies.
//
// Set Policy.Metrics, and serve what was counted:
//
//	api := retry.APICall()
//	api.Name, api.Metrics = "fetch_stations", metrics.Default
//	http.Handle("/metrics", metrics.Handler())
//
// Everything that a Policy governs counts: retry.Do and retry.Value, and the clients of
// packages httpretry, awsretry, grpcretry and sqlretry; packages hedge and fallback have a field
// Metrics of their own. A breaker is shown once an operation
// with a Policy that counts has used it; [Registry.Watch] adds others.
//
// [Registry.Snapshot] returns the same numbers as plain structs, for other ways to expose
// them; [Snapshot.Write] writes them as text. The names are listed in docs/metrics.md.
//
// # Cost
//
// A Policy without Metrics pays one comparison. With Metrics, an operation that succeeds
// at once pays one atomic addition and a look-up without a lock: less than 20 ns, no
// allocation and no read of the clock.
//
// # Bounds
//
// The labels are the name of the Policy (operation) and of its Breaker (key), without
// secrets and cut to 200 bytes. A Registry keeps 1000 pairs of them; operations of any
// other pair, or with names of more than 1000 bytes, are counted under operation="other",
// key="other". It also keeps at most 1000 breakers, and of breakers of one name the one that
// was used last.
package metrics

import (
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/meter"
)

type handle = meter.Handle //nolint:unused // it makes a Registry a retry.Meter

// A Registry counts the operations of the policies whose Metrics it is. Its zero value is
// empty and ready for use. It is safe for concurrent use; do not copy it. As an
// [http.Handler] it serves its counts, see [Handler].
//
// Operations count when they end, attempts when their result is known. An operation that
// ends by a panic in its first attempt, or that has an invalid Policy, is not counted.
type Registry struct {
	handle //nolint:unused // as above
}

// Default is the Registry of [Handler].
var Default = new(Registry) //nolint:gochecknoglobals // as http.DefaultServeMux is

// Watch adds breakers, such as those that are used without a Policy, to those that r
// shows.
func (r *Registry) Watch(breakers ...*circuit.Breaker) {
	for _, b := range breakers {
		meter.Of(r).Watch(b)
	}
}
