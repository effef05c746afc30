package objects

import (
	"errors"
	"fmt"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/wire"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// An Error is an operation on an object that failed.
type Error struct {
	Op     string // put, get, delete, list, stat, copy, clean
	Bucket string
	Key    string // of a list, the prefix
	Err    error
}

// Error is like "put s3://bikes/hour.csv: ...", in one line that can be printed.
func (e *Error) Error() string {
	return redact.Line(fmt.Sprintf("%s s3://%s/%s: %v", e.Op, e.Bucket, e.Key, e.Err))
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// A RegionError reports a bucket that is in another region, and could not be
// reached there: because the endpoint is one for all regions, or because the
// policy allows no further attempt.
type RegionError struct {
	Bucket string
	Region string // that it is in
	Err    error
}

// Error is like "bucket bikes is in region eu-west-1: ...".
func (e *RegionError) Error() string {
	return redact.Line(fmt.Sprintf("bucket %s is in region %s: %v", e.Bucket, e.Region, e.Err))
}

// Unwrap returns Err.
func (e *RegionError) Unwrap() error { return e.Err }

func elsewhere(bucket, region string, err error) error {
	return &RegionError{Bucket: bucket, Region: region, Err: err}
}

// What can go wrong with a transfer besides its requests. Test for them with [errors.Is].
var (
	// ErrChecksum reports that the bytes that arrived have a different checksum than those that were sent.
	ErrChecksum = checksum.ErrMismatch
	// ErrChanged reports that the object was replaced while it was read.
	ErrChanged = transfer.ErrChanged
	// ErrStalled reports that a connection delivered nothing for Options.Stall, or less than Options.MinRate.
	ErrStalled = wire.ErrStalled
	// ErrListing reports a listing that has no end, lacks the continuation token of its next page, or has keys outside the
	// prefix.
	ErrListing = errors.New("the listing cannot be completed")
)

// wrap returns err as an *Error; nil stays nil.
func wrap(op, bucket, key string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Bucket: bucket, Key: key, Err: err}
}
