/** TCP endpoint: see owner.ts for the seam. (Being written.) */
export class TcpSubflow {}
