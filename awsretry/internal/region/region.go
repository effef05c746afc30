// Package region addresses buckets in the regions that stores say they are in.
package region

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyendpoints "github.com/aws/smithy-go/endpoints"
	"github.com/aws/smithy-go/middleware"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/fix"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/sdk"
)

// header is the header with the region of a bucket. Package awsretry copies it from the body of an error.
const header = "X-Amz-Bucket-Region"

// A Map records the regions of buckets. It is safe for concurrent use.
type Map struct {
	elsewhere func(bucket, region string, err error) error // see New

	mu    sync.RWMutex
	known map[string]string // by bucket; guarded by mu
}

// New returns an empty Map. elsewhere makes the error of an operation on a bucket that is in another region and could
// not be reached there.
func New(elsewhere func(bucket, region string, err error) error) *Map {
	return &Map{elsewhere: elsewhere, known: make(map[string]string)}
}

// Option makes a client address each bucket in its region, once a store has named that region. An attempt that was
// sent to another region is repeated at once, once for each operation.
func (m *Map) Option(o *s3.Options) {
	o.EndpointResolverV2 = resolver{cmp.Or(o.EndpointResolverV2, s3.NewDefaultEndpointResolverV2()), m}
	follow := middleware.InitializeMiddlewareFunc("perdure:Region", m.follow)
	o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
		return stack.Initialize.Add(follow, middleware.Before)
	})
}

type resolver struct {
	s3.EndpointResolverV2

	regions *Map
}

// ResolveEndpoint resolves for the recorded region of the bucket.
func (r resolver) ResolveEndpoint(ctx context.Context, p s3.EndpointParameters) (smithyendpoints.Endpoint, error) {
	if p.Bucket != nil {
		if region := r.regions.of(*p.Bucket); region != "" {
			p.Region = &region
		}
	}
	return r.EndpointResolverV2.ResolveEndpoint(ctx, p)
}

func (m *Map) of(bucket string) string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.known[bucket]
}

func (m *Map) follow(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
	bucket := sdk.Parameter(in.Parameters, "Bucket")
	if bucket == "" {
		return next.HandleInitialize(ctx, in)
	}
	followed := false
	out, metadata, err := next.HandleInitialize(fix.With(ctx, func(err error) bool {
		region := regionIn(err)
		if region == "" || followed || isFor(err, region) {
			return false
		}
		followed = true
		m.mu.Lock()
		m.known[bucket] = region
		m.mu.Unlock()
		return true
	}), in)
	if region := regionIn(err); region != "" && (m.of(bucket) == region || !isFor(err, region)) {
		err = m.elsewhere(bucket, region, err)
	}
	return out, metadata, err
}

// regionIn returns the region that the response of err names for the bucket, or "" if err has another cause than the
// region.
func regionIn(err error) string {
	res := sdk.Response(err)
	if res == nil {
		return ""
	}
	switch res.StatusCode {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect:
	case http.StatusBadRequest:
		api, ok := errors.AsType[smithy.APIError](err)
		head := res.Request != nil && res.Request.Method == http.MethodHead // its response has only a status
		if !head && (!ok || api.ErrorCode() != "AuthorizationHeaderMalformed") {
			return ""
		}
	default:
		return ""
	}
	return res.Header.Get(header)
}

// isFor reports whether the request of err was signed for that region.
func isFor(err error, region string) bool {
	res := sdk.Response(err)
	return res != nil && res.Request != nil && strings.Contains(res.Request.Header.Get("Authorization"), "/"+region+"/s3/")
}
