// Package sqlretry retries transactions of PostgreSQL and MySQL, and classifies their
// errors.
package sqlretry
