// Package grpcretry retries the calls of a gRPC client.
//
// [DialOptions] makes a client retry, and switches gRPC's own retries off:
//
//	api := retry.Service()
//	breakers := circuit.Service()
//	conn, err := grpc.NewClient(target, append(grpcretry.DialOptions(grpcretry.Options{
//		Policy:   &api,
//		Breakers: &breakers, // each target has a breaker, a gate and a retry budget
//	}), grpc.WithTransportCredentials(creds))...)
//
// Each call is one operation of package retry, which decides on each attempt and wait.
// Package grpcretry knows gRPC: what a code means, what a server asks for
// (grpc-retry-pushback-ms, google.rpc.RetryInfo), which messages of a stream can be sent
// again, how to hedge a call.
//
// # Which calls are repeated
//
// As in a service config, a method that has a policy is retried. gRPC does not know which
// methods are idempotent: set [Method.Once] in [Options.Methods] for those that are not.
// They are repeated only if the call never reached a connection.
//
// # What a code means
//
//	UNAVAILABLE         transient
//	RESOURCE_EXHAUSTED  throttled; permanent if a message exceeds a size limit,
//	                    which only the text of the status says
//	ABORTED             conflict
//	DEADLINE_EXCEEDED   transient, unless the caller's deadline has passed
//	CANCELLED           transient, unless the caller has cancelled: then ignored
//	INTERNAL, UNKNOWN, DATA_LOSS and codes without a name
//	                    unknown: not retried, a failure for the breaker
//	all others          permanent: not retried, a success for the breaker
//
// [retry.Policy.RetryOn] and IgnoreOn take these names as codes: {"default", "INTERNAL"}.
//
// # What a server may ask for
//
// The trailer grpc-retry-pushback-ms sets the wait before the next attempt in place of
// the backoff; a wait of 0 retries at once. A negative value, a value that is not a number, or
// several values end the call. If the trailer is absent, google.rpc.RetryInfo in the
// status details sets the minimum of the wait. [retry.Policy.IgnoreRetryAfter] ignores
// both, except the request to stop, and [retry.Policy.MaxRetryAfter] limits both.
//
// Attempts after the first send the metadata grpc-previous-rpc-attempts.
//
// # Streams
//
// A stream is repeated until its first message, or its header, is delivered to the
// caller; for the breaker and the policy, the attempt ends then. The messages sent until
// then are kept, up to [Options.BufferLimit] bytes, and are sent again. Only protobuf
// messages and byte slices are kept. After any other message, or beyond the limit, the
// stream is not repeated, and its error says so and wraps [ErrBuffer].
// [retry.Policy.AttemptTimeout] limits the time to the first message. Streams are not
// hedged. As with any
// gRPC stream, read until an error or cancel its context.
//
// # Errors
//
// Errors have a gRPC status: status.Code works on each. An error of several attempts is
// a [*retry.Error] with the last status in Last. A call that a breaker refuses has the
// code UNAVAILABLE, and the *circuit.OpenError or *circuit.LimitError in it. A call
// whose context ended has the code CANCELLED or DEADLINE_EXCEEDED.
//
// # Layers
//
// gRPC itself repeats a call that its server surely has not processed ("transparent
// retries"); these belong to one attempt here. If a service config sets a retryPolicy
// and gRPC's retries are on, attempts multiply: [DialOptions] switches them off, the
// interceptors of [Interceptor] alone cannot. A [Counter] counts both.
package grpcretry
