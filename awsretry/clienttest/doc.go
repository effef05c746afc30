// Package clienttest tests package awsretry with generated clients of many services. It is a module of its own, which
// is never published, so that users of awsretry do not get the requirements of those clients.
package clienttest
