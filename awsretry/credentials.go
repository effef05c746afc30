package awsretry

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go"
)

// An invalidator is an aws.CredentialsCache.
type invalidator interface {
	aws.CredentialsProvider
	Invalidate()
}

// refreshing lets one operation at a time fetch credentials again: whoever has put an element into it.
type refreshing chan struct{}

// refresh makes the next attempt after err be signed with other credentials of the provider, and reports whether there
// can be others. If those in a cache are no longer the ones that were refused, another operation has seen to it.
func (r refreshing) refresh(ctx context.Context, provider aws.CredentialsProvider, err error) bool {
	if provider == nil || aws.IsCredentialsProvider(provider, credentials.StaticCredentialsProvider{}) {
		return false
	}
	cache, ok := provider.(invalidator)
	if !ok {
		return true // each attempt asks the provider
	}
	select {
	case r <- struct{}{}:
		defer func() { <-r }()
	case <-ctx.Done():
		return true
	}
	if now, failed := cache.Retrieve(ctx); failed == nil && isSignedWith(err, now) {
		cache.Invalidate()
	}
	return true
}

// isSignedWith reports whether the request that ended with err had these credentials.
func isSignedWith(err error, c aws.Credentials) bool {
	response := responseOf(err)
	if response == nil || response.Request == nil {
		return true
	}
	header := response.Request.Header
	return header.Get("X-Amz-Security-Token") == c.SessionToken &&
		strings.Contains(header.Get("Authorization"), "Credential="+c.AccessKeyID+"/")
}

// isExpired reports whether err is about credentials whose time is over. The
// response to a HEAD has no code to say so, but only its status.
func isExpired(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	switch api.ErrorCode() {
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired":
		return true
	}
	response := responseOf(err)
	return response != nil && response.StatusCode == http.StatusBadRequest && response.Request != nil && response.Request.Method == http.MethodHead
}
