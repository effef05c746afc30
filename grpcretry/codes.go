package grpcretry

import (
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/seed-0f2c7998/perdure/retry"
)

// classOf returns the class of a status that neither the caller nor the attempt's own
// timeout has caused.
func classOf(s *status.Status) retry.Class {
	switch s.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return retry.ClassTransient
	case codes.ResourceExhausted:
		if isTooLarge(s.Message()) {
			return retry.ClassPermanent
		}
		return retry.ClassThrottled
	case codes.Aborted:
		return retry.ClassConflict
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented, codes.Unauthenticated:
		return retry.ClassPermanent
	default:
		return retry.ClassUnknown
	}
}

// isTooLarge reports whether text is that of a message beyond the limit of the client or
// the server. gRPC gives it the code of a busy server, and only the text differs. That of
// other languages is that of grpc-java, grpc-core.
func isTooLarge(text string) bool {
	for _, part := range [...]string{"larger than max", "exceeds maximum size", "exceeds maximum:"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// codeName returns the name of a code in the protocol, such as DEADLINE_EXCEEDED.
func codeName(c codes.Code) string {
	if name, ok := code.Code_name[int32(min(c, math.MaxInt32))]; ok {
		return name
	}
	return "CODE_" + strconv.FormatUint(uint64(c), 10)
}

// pushback returns the wait of the trailer grpc-retry-pushback-ms, and whether the trailer
// is present. A negative wait means that the call must not be repeated.
func pushback(trailer metadata.MD) (wait time.Duration, asked bool) {
	values := trailer.Get("grpc-retry-pushback-ms")
	switch len(values) {
	case 0:
		return 0, false
	case 1:
		ms, err := strconv.ParseInt(values[0], 10, 32)
		if err != nil {
			return -1, true
		}
		return time.Duration(ms) * time.Millisecond, true
	default:
		return -1, true
	}
}

// retryInfo returns the wait of google.rpc.RetryInfo in the details of a status; 0 means
// none.
func retryInfo(s *status.Status) time.Duration {
	for _, detail := range s.Details() {
		info, ok := detail.(*errdetails.RetryInfo)
		if ok && info.GetRetryDelay().IsValid() {
			return max(info.GetRetryDelay().AsDuration(), 0)
		}
	}
	return 0
}
