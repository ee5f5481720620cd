/** A request that the mock refuses, with the problem document that it answers. */
export class Refusal extends Error {
  /** @param {number} status @param {string} code @param {string} title @param {string} detail @param {{pointer: string, code: string, detail: string}[]} [errors] */
  constructor(status, code, title, detail, errors) {
    super(detail);
    this.status = status;
    this.problem = { type: `/api/v1/errors/${code}`, title, status, detail, code, retryable: status === 503, request_id: 'req_mock', errors };
  }
}
