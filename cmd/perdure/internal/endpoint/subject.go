package endpoint

import (
	"context"

	"github.com/seed-0f2c7998/perdure/awsretry"
)

// subjectKey is the key of the file that a context is of.
type subjectKey struct{}

// WithSubject returns a context for the copy of one file, whose name events have.
func WithSubject(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, subjectKey{}, name)
}

// Subject returns the name of the file that an event with this context is of, without
// secrets; "" if it is of none, such as that of a listing.
func Subject(ctx context.Context) string {
	name, _ := ctx.Value(subjectKey{}).(string)
	return name
}

// withSubjectOf returns ctx with the object or the bucket of a request that failed, if
// ctx has no subject.
func withSubjectOf(ctx context.Context, err error) context.Context {
	if Subject(ctx) != "" || err == nil {
		return ctx
	}
	if bucket, key := awsretry.Object(err); bucket != "" {
		return WithSubject(ctx, "s3://"+bucket+"/"+key)
	}
	return ctx
}

// operationKey is the key of the operation that a context is of.
type operationKey struct{}

// doing returns ctx with the name of an operation that is neither the upload nor the
// download of an object, and with o as its subject if it has none.
func (o *Object) doing(ctx context.Context, operation string) context.Context {
	if Subject(ctx) == "" {
		ctx = WithSubject(ctx, o.String())
	}
	return context.WithValue(ctx, operationKey{}, operation)
}

// subjectOf returns the name of one file that is copied: its address, or that of the
// destination if it is standard input.
func subjectOf(from, to Endpoint) string {
	if from.String() == "-" {
		return to.String()
	}
	return from.String()
}

// Named returns ctx with the name of a copy of one file, unless ctx has a name.
func Named(ctx context.Context, from, to Endpoint) context.Context {
	if Subject(ctx) != "" {
		return ctx
	}
	return WithSubject(ctx, subjectOf(from, to))
}
