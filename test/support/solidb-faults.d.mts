import type { Fault } from './solidb-server.mjs';

export const drop: Fault;
export const dropAnswer: Fault;
export const resetHalfWay: Fault;
export const truncate: Fault;
export const stall: Fault;
export const hang: Fault;
export const flood: Fault;
export function reply(status: number, headers?: Record<string, string>, body?: string): Fault;
export function page(status?: number): Fault;
