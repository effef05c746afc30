// Package policy reads named policies, each with its circuit breaker, from a YAML file that
// programs, the command perdure and Dagster steps share.
//
//	policies:
//	  default:                     # the other policies inherit its values
//	    preset: service
//	  fetch:
//	    max_attempts: 7
//	    circuit_breaker: {rate: 60/m}
//	  load:
//	    preset: pipeline
//	    circuit_breaker: warehouse # shared, by name
//	  unload:
//	    circuit_breaker: warehouse
//	breakers:
//	  warehouse: {gate: wait, concurrency: 4}
//	store: host                    # where the state of breakers lives
//	proxy:                         # upstreams of perdure proxy, by path prefix or address
//	  /weather: {to: "https://weather.example.com", policy: fetch}
//
// [Load] returns the policies of such a file as a [Set]; [Set.For] returns one of them:
//
//	set, err := policy.Load("policies.yaml")
//	...
//	fetch, err := set.For("fetch")
//	...
//	err = retry.Do(ctx, fetch, download)
//
// A policy has the values of its preset, changed by those of default, changed by its own.
// Its parameters are those of retry.Parameters, and in circuit_breaker those of
// circuit.Parameters. Every part of a file is optional. A file with one policy has the
// sections policy and circuit_breaker in place of policies and breakers; its policy is named
// default.
//
// An error about a file is a line with the place, the value and what is allowed, with the
// lines of the file below it. It shows no secrets.
package policy
