/**
 * What a version of SoliDB does, as far as a session store can tell.
 *
 * @typedef {object} Profile
 * @property {boolean} createsOnly whether a POST of a key that is taken is refused, instead of overwriting
 * @property {boolean} comparesRevisions whether a PUT minds `If-Match`
 * @property {boolean} locksUpdates whether a PUT is atomic, instead of a read and a write that others get in between
 * @property {boolean} replaces whether `?replace=true` is known
 * @property {boolean} createsCollections whether a POST makes the collection it names
 * @property {boolean} mindsCacheFlag whether `"cache": false` is minded; results are kept for a minute either way
 * @property {boolean} removalBreaksOff whether REMOVE stops with 404 at a document that vanished meanwhile
 * @property {number} requestsPerMinute per client address; 0: any number
 * @property {'attempts' | 'failures'} countsLogins which logins count towards 20 a minute
 */

/** @type {Readonly<Record<'v0.10' | 'v1.2' | 'v2.1', Profile>>} */
export const profiles = {
  'v0.10': {
    createsOnly: false,
    comparesRevisions: false,
    locksUpdates: false,
    replaces: false,
    createsCollections: false,
    mindsCacheFlag: false,
    removalBreaksOff: true,
    requestsPerMinute: 0,
    countsLogins: 'attempts',
  },
  'v1.2': {
    createsOnly: true,
    comparesRevisions: true,
    locksUpdates: true,
    replaces: false,
    createsCollections: true,
    mindsCacheFlag: true,
    removalBreaksOff: false,
    requestsPerMinute: 600,
    countsLogins: 'failures',
  },
  'v2.1': {
    createsOnly: true,
    comparesRevisions: true,
    locksUpdates: true,
    replaces: true,
    createsCollections: true,
    mindsCacheFlag: true,
    removalBreaksOff: false,
    requestsPerMinute: 600,
    countsLogins: 'failures',
  },
};
