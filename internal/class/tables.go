package class

import (
	"strconv"
	"strings"
)

// never reports whether a status of 5xx says what the server is, and not how it is: the next response is the same.
func never(status int) bool {
	switch status {
	case 501, // the server cannot do it at all
		505, // it does not speak this version of HTTP
		506, // its negotiation leads in a circle
		510, // it wants an extension that the request lacks
		511: // a captive portal wants a login
		return true
	}
	return false
}

// OfStatus returns the class of an HTTP status: 429 is Throttled; 408 and 425 are Transient, and so is every 5xx but
// those that are never; the rest of 300 and above is Permanent, for the server has answered. Below that it is Unknown.
func OfStatus(status int) Class {
	switch {
	case status < 300:
		return Unknown
	case status == 429:
		return Throttled
	case status == 408, status == 425:
		return Transient
	case status >= 500 && status <= 599 && !never(status):
		return Transient
	}
	return Permanent
}

// known returns the class of an error code of AWS, of S3-compatible stores, and of some others whose names are alike.
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

// OfCode returns the class of an error code, such as SlowDown, ServiceUnavailableException or "503"; Unknown for one
// that means nothing here. A code means the same with Exception or Error at its end: services spell it in each way. The
// reverse does not hold (LimitExceededException is a rate, and IAM's LimitExceeded a quota).
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

// OfState returns the class of an SQLSTATE: by its five characters, or by the two of its group. One that says neither
// that the statement is to blame nor that the next may work is Unknown.
func OfState(state string) Class {
	if len(state) != 5 {
		return Unknown
	}
	switch state {
	case "40001", "40P01", "55P03": // serialization, deadlock, a lock that somebody holds
		return Conflict
	case "57P01", "57P02", "57P03", "57P05": // the server shuts down, has crashed, starts, has closed an idle session
		return Transient
	case "57P04": // the database is gone
		return Permanent
	}
	switch state[:2] {
	case "08", "53": // connections; too few resources
		return Transient
	case "0A", "21", "22", "23", "26", "28", "3D", "3F", "42", "44", "P0":
		return Permanent
	}
	return Unknown
}
