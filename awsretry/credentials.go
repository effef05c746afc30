package awsretry

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/sdk"
)

// An invalidator is an aws.CredentialsCache.
type invalidator interface {
	aws.CredentialsProvider
	Invalidate()
}

// A refreshing is a lock: one operation at a time fetches credentials again. It is held by the operation that has
// sent an element.
type refreshing chan struct{}

// refresh makes the provider fetch credentials for the attempt after err, and reports whether they can differ. If a
// cache no longer has the refused credentials, another operation has fetched new ones.
func (r refreshing) refresh(ctx context.Context, provider aws.CredentialsProvider, err error) bool {
	if provider == nil || aws.IsCredentialsProvider(provider, credentials.StaticCredentialsProvider{}) {
		return false
	}
	cache, ok := provider.(invalidator)
	if !ok {
		return true // each attempt retrieves credentials
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

// isSignedWith reports whether the request that failed with err was signed with c.
func isSignedWith(err error, c aws.Credentials) bool {
	response := sdk.Response(err)
	if response == nil || response.Request == nil {
		return true
	}
	header := response.Request.Header
	return header.Get("X-Amz-Security-Token") == c.SessionToken &&
		strings.Contains(header.Get("Authorization"), "Credential="+c.AccessKeyID+"/")
}

// isExpired reports whether err is about expired credentials. The response to a HEAD has no code, only its status.
func isExpired(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	switch api.ErrorCode() {
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired":
		return true
	}
	response := sdk.Response(err)
	return response != nil && response.StatusCode == http.StatusBadRequest && response.Request != nil && response.Request.Method == http.MethodHead
}
