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

// A refresher makes credentials that have expired be fetched anew.
type refresher struct {
	cache invalidator   // nil: there is none, each attempt asks anew
	turn  chan struct{} // holds one: whoever has taken it may invalidate the cache
}

// An invalidator is an aws.CredentialsCache.
type invalidator interface {
	aws.CredentialsProvider
	Invalidate()
}

// newRefresher returns nil for credentials that would be the same again.
func newRefresher(provider aws.CredentialsProvider) *refresher {
	if provider == nil || aws.IsCredentialsProvider(provider, credentials.StaticCredentialsProvider{}) {
		return nil
	}
	cache, _ := provider.(invalidator)
	return &refresher{cache: cache, turn: make(chan struct{}, 1)}
}

// refresh makes the next attempt after err be signed with other credentials. If
// those in the cache are no longer the ones that were refused, another operation
// has seen to it.
func (r *refresher) refresh(ctx context.Context, err error) {
	if r.cache == nil {
		return
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return
	}
	if now, failed := r.cache.Retrieve(ctx); failed == nil && isSignedWith(err, now) {
		r.cache.Invalidate()
	}
}

// isSignedWith reports whether the request that ended with err had these credentials.
func isSignedWith(err error, c aws.Credentials) bool {
	answer := answerOf(err)
	if answer == nil || answer.Request == nil {
		return true
	}
	header := answer.Request.Header
	return header.Get("X-Amz-Security-Token") == c.SessionToken &&
		strings.Contains(header.Get("Authorization"), "Credential="+c.AccessKeyID+"/")
}

// isExpired reports whether err is about credentials whose time is over. The
// answer to a HEAD has no code to say so, but only its status.
func isExpired(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	switch api.ErrorCode() {
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired":
		return true
	}
	answer := answerOf(err)
	return answer != nil && answer.StatusCode == http.StatusBadRequest && answer.Request != nil && answer.Request.Method == http.MethodHead
}
