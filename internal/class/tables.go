package class

import (
	"strconv"
	"strings"
)

// isLasting reports whether a status of 5xx describes the server itself, and not its condition: the next response is the
// same.
func isLasting(status int) bool {
	switch status {
	case 501, // Not Implemented
		505, // HTTP Version Not Supported
		506, // Variant Also Negotiates: the negotiation is a loop
		510, // Not Extended: the request lacks an extension
		511: // Network Authentication Required: a captive portal
		return true
	}
	return false
}

// OfStatus returns the class of an HTTP status: 429 is Throttled; 408, 425 and 5xx are Transient, except a 5xx that is
// lasting; every other status from 300 on is Permanent, and one below 300 is Unknown.
func OfStatus(status int) Class {
	switch {
	case status < 300:
		return Unknown
	case status == 429:
		return Throttled
	case status == 408, status == 425:
		return Transient
	case status >= 500 && status <= 599 && !isLasting(status):
		return Transient
	}
	return Permanent
}

// known returns the class of an error code of AWS, of S3-compatible stores, or of a service with similar codes.
func known(code string) Class {
	switch code {
	case "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "Throttled", "RequestThrottled",
		"RequestLimitExceeded", "TooManyRequests", "BandwidthLimitExceeded", "LimitExceededException",
		"ProvisionedThroughputExceeded", "PriorRequestNotComplete", "TransactionInProgress", "EC2Throttled",
		"KMSThrottling":
		return Throttled
	case "Internal", "InternalFailure", "InternalServer", "ServiceUnavailable", "ServerUnavailable", "ServiceFailure",
		"Busy", "ServerBusy", "RequestTimeout", "RequestTimedOut", "OperationTimedOut", "IncompleteBody",
		"IDPCommunication":
		return Transient
	case "TransactionConflict", "ReplicatedWriteConflict", "OperationAborted", "ConditionalRequestConflict":
		return Conflict
	case "AccessDenied", "NoSuchKey", "NoSuchBucket", "NoSuchUpload", "NoSuchVersion", "NotFound", "ResourceNotFound",
		"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "BadDigest", "PreconditionFailed",
		"ConditionalCheckFailed", "PermanentRedirect", "NotModified", "MethodNotAllowed", "XMinioStorageFull":
		return Permanent
	}
	return Unknown
}

// OfCode returns the class of an error code, such as SlowDown, ServiceUnavailableException or "503"; Unknown for a code
// that is not in the table. A code in the table has the same meaning with the suffix Exception or Error, which some
// services add. The reverse does not hold: LimitExceededException is a rate, and LimitExceeded of IAM is a quota.
func OfCode(code string) Class {
	if len(code) == 3 {
		if status, err := strconv.Atoi(code); err == nil {
			return OfStatus(status)
		}
	}
	if c := known(code); c != Unknown {
		return c
	}
	for _, suffix := range []string{"Exception", "Error"} {
		if name, ok := strings.CutSuffix(code, suffix); ok {
			return known(name)
		}
	}
	return Unknown
}

// OfState returns the class of an SQLSTATE, by its five characters or by its class, the first two. It is Unknown for a
// state that blames neither the statement nor the condition of the server.
func OfState(state string) Class {
	if len(state) != 5 {
		return Unknown
	}
	switch state {
	case "40001", "40P01", "55P03": // serialization failure, deadlock, lock not available
		return Conflict
	case "57P01", "57P02", "57P03", "57P05": // the server shuts down, has crashed, is starting, has closed an idle session
		return Transient
	case "57P04": // the database was dropped
		return Permanent
	}
	switch state[:2] {
	case "08", "53": // connection exceptions, insufficient resources
		return Transient
	case "0A", "21", "22", "23", "26", "28", "3D", "3F", "42", "44", "P0":
		return Permanent
	}
	return Unknown
}
